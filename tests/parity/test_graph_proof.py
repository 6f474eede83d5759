"""Generated modules compute what MXNet computes: every operator, and GluonCV's classification models."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
from graph_building import Network, build, variable
from operator_cases import CASES

from converter.commands.graph_conversion import convert_graph
from converter.errors import ParityError, ReferenceFailedError
from converter.formats.params import write_params
from converter.graphs import codegen, operators, pruning
from converter.parity import graph_proof
from converter.parity.graph_outputs import MXNetOutputs
from converter.parity.graph_proof import ConvertedGraph
from converter.parity.graph_rows import GraphProof, Part
from converter.parity.options import ParityOptions
from converter.references import symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from graph_building import Described
    from operator_case import OperatorCase

    from converter.dtypes import Array
    from converter.graphs.graph import Graph

PYTHON = Path(sys.executable)


def convert(graph: Graph, parameters: dict[str, Array]) -> ConvertedGraph:
    pruned = pruning.prune(graph)
    shapes = {name: array.shape for name, array in parameters.items()}
    module = codegen.generate(pruned.graph, shapes, "net")
    return ConvertedGraph(whole=graph, pruned=pruned, module=module, parameters=parameters)


def prove(converted: ConvertedGraph, inputs: dict[str, Array]) -> GraphProof:
    runs = [
        (dtype, {name: array.astype(dtype) for name, array in inputs.items()})
        for dtype in ("float64", "float32")
    ]
    return graph_proof.prove(converted, runs, PYTHON)


def in_one_graph(case: OperatorCase) -> bool:
    """Return whether a case can be part of a graph with inputs in one precision.

    MXNet's RNN fails in float32 without oneDNN.
    """
    return not case.integers and case.attributes.get("dtype") != "float64" and case.operator != "RNN"


def side_by_side(chosen: Callable[[OperatorCase], bool]) -> tuple[Graph, dict[str, Array]]:
    """Return a graph of the chosen cases side by side, with the values of its variables."""
    nodes: list[Described] = []
    heads: list[str] = []
    values: dict[str, Array] = {}
    for number, case in enumerate(CASES):
        if not chosen(case):
            continue
        operation = operators.parse(case.operator, case.attributes)
        names = [f"c{number}_{place}" for place in range(len(case.shapes))]
        nodes += [*map(variable, names), (case.operator, f"case{number}", case.attributes, names)]
        heads += [f"case{number}:{output}" for output in range(operation.outputs)]
        arrays = case.arrays()
        kept = len(arrays) - operation.takes_label
        values.update(zip(names[:kept], arrays, strict=False))
    return build(*nodes, heads=heads), values


def test_every_operator_is_proven_in_both_dtypes() -> None:
    graph, values = side_by_side(in_one_graph)
    converted = convert(graph, {})
    proof = prove(converted, {name: values[name] for name in converted.module.inputs})
    wrong = {
        (row.dtype, str(CASES[int(row.node.removeprefix("case"))])): row.relative
        for row in proof.rows
        if not row.passed
    }
    assert wrong == {}
    assert len(proof.rows) >= 2 * sum(map(in_one_graph, CASES))
    assert {"BilinearResize2D", "Crop", "InstanceNorm", "LRN", "LeakyReLU"} & set(proof.replaced)
    assert proof.rewriting < 1e-5  # 1e-6 measured


def test_recurrent_networks_are_proven_in_both_dtypes() -> None:
    graph, values = side_by_side(lambda case: case.operator == "RNN")
    converted = convert(graph, {})
    proof = prove(converted, {name: values[name] for name in converted.module.inputs})
    proof.require()
    assert {row.dtype for row in proof.nodes} == {"float64", "float32"}


def small_network(slope: str = "0.1") -> Network:
    net = Network()
    x = net.norm("bn0", net.conv("conv0", "data", 3, 12), 12)
    x = net.apply("LeakyReLU", "leaky0", x, slope=slope)
    x = net.apply("slice_axis", "slice0", x, axis="1", begin="2", end="10")
    x = net.residual("stage1_unit1", x, 8, 8)
    x = net.residual("stage1_unit2", x, 8, 8)
    x = net.apply("Pooling", "pool1", x, kernel="(3, 3)", stride="(2, 2)", pool_type="avg")
    net.nodes.append(variable("softmax_label"))
    x = net.dense("fc1", x, 8 * 5 * 4, 5)
    net.apply("SoftmaxOutput", "softmax", x, "softmax_label")
    return net


def images(*shape: int) -> Array:
    array: Array = np.random.Generator(np.random.PCG64(1)).normal(0, 1, shape or (2, 3, 12, 10))
    return array


def test_every_layer_and_output_of_a_network_is_compared() -> None:
    net = small_network()
    converted = convert(net.build("softmax"), generated_modules.random_parameters(net.shapes))
    proof = prove(converted, {"data": images()})
    proof.require()
    assert proof.passed
    assert proof.worst("float64") < 1e-13
    assert [row.layer for row in proof.rows].count("stage1.unit2.conv2") == 2
    assert [row.node for row in proof.rows if not row.layer] == ["softmax", "softmax"]
    assert proof.replaced == ("LeakyReLU", "SoftmaxOutput")
    assert proof.versions["mxnet"] == "1.9.1"


@dataclass(frozen=True)
class Recorded:
    """MXNet's outputs of the small network in float64."""

    recorded: tuple[tuple[int, tuple[Array, ...]], ...]
    order: tuple[int, ...] = (0,)

    def outputs(self, _number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
        return iter(self.recorded)


RUNS = [("float64", {"data": images()})]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    net = small_network()
    converted = convert(net.build("softmax"), generated_modules.random_parameters(net.shapes))
    with symbol.start(PYTHON, graph_proof.request(converted, RUNS)) as child:
        return Recorded(tuple(MXNetOutputs(child, converted.pruned).outputs(0)))


CHANGES = {
    "eps": ("eps=0.0010000000474974513", "eps=0.001", "bn0"),
    "a slope": ("0.10000000149011612", "0.1", "stage1_unit1_conv1"),
    "a missing activation": ("F.relu(self.bn2(y) + x)", "self.bn2(y) + x", "stage1_unit2_conv1"),
    "a stride": ("nn.AvgPool2d(3, 2)", "nn.AvgPool2d(3, 2, count_include_pad=False)", None),
    "a swapped operand": ("self.bn2(y) + x", "x - self.bn2(y)", "stage1_unit2_conv1"),
    "a padding": (", padding=1", ", padding=1, padding_mode='circular'", "conv0"),
    "an index": ("[:, 2:10]", "[:, 1:9]", "stage1_unit1_conv1"),
}


@pytest.mark.parametrize(("old", "new", "node"), CHANGES.values(), ids=CHANGES)
def test_changed_module_fails_at_the_first_layer_that_differs(
    old: str, new: str, node: str | None, recorded: Recorded
) -> None:
    """Without padding, count_include_pad changes nothing."""
    net = small_network()
    converted = convert(net.build("softmax"), generated_modules.random_parameters(net.shapes))
    assert old in converted.module.source
    changed = replace(converted.module, source=converted.module.source.replace(old, new))
    rows, _ = graph_proof.compare(replace(converted, module=changed), RUNS, recorded)
    proof = GraphProof(comparisons=rows, versions={})
    assert proof.passed == (node is None)
    if node is not None:
        assert proof.first_mismatch is not None
        assert proof.first_mismatch.node == node
        with pytest.raises(ParityError, match=f"(?s)differs from the graph in float64.*first at  {node}"):
            proof.require()


MISREAD = {
    "eps": ("BatchNorm", "eps", "0.01", "bn0"),
    "a slope": ("LeakyReLU", "slope", "0.100001", "leaky0"),
    "an index": ("slice_axis", "begin", "1", "slice0"),
    "a padding": ("Pooling", "count_include_pad", "False", None),
}


@pytest.mark.parametrize(("operator", "key", "text", "node"), MISREAD.values(), ids=MISREAD)
def test_misread_attribute_is_caught_at_its_node(
    operator: str, key: str, text: str, node: str | None, recorded: Recorded
) -> None:
    """MXNet reads the file itself: a graph that the converter has read wrongly does not pass."""
    net = small_network()
    nodes = [
        (each, name, {**attributes, key: text} if each == operator else attributes, inputs)
        for each, name, attributes, inputs in net.nodes
    ]
    if key == "begin":
        nodes = [(op, name, {**a, "end": "9"} if op == operator else a, i) for op, name, a, i in nodes]
    wrong = convert(build(*nodes, heads=["softmax"]), generated_modules.random_parameters(net.shapes))
    comparisons, _ = graph_proof.compare(wrong, RUNS, recorded)
    failed = [row.node for row in comparisons if row.part is Part.node and not row.passed]
    assert failed[:1] == ([] if node is None else [node])
    assert all(row.passed for row in comparisons) == (node is None)


def test_misread_attribute_is_caught() -> None:
    """MXNet reads the file itself: a graph that the converter has read wrongly does not pass."""
    net = small_network()
    graph = net.build("softmax")
    wrong = build(
        *[
            (op, name, {**each, "eps": "0.01"} if op == "BatchNorm" else each, i)
            for op, name, each, i in net.nodes
        ],
        heads=["softmax"],
    )
    parameters = generated_modules.random_parameters(net.shapes)
    converted = replace(convert(wrong, parameters), whole=graph)
    assert not graph_proof.prove(converted, [("float64", {"data": images()})], PYTHON).passed


def test_operators_without_float64_are_proven() -> None:
    """Renamed ones in float64; those that stay in float32 between casts, with a wider limit."""
    net = Network()
    x = net.norm("bn0", net.conv("conv0", "data", 3, 8), 8, fix_gamma="False")
    x = net.apply("Pooling", "pool0", x, kernel="(3, 3)", pad="(1, 1)", pool_type="avg")
    x = net.norm("bn1", x, 8, fix_gamma="False")
    net.apply("SliceChannel", "split", net.apply("LRN", "lrn", x, nsize="3"), num_outputs="2")
    net.conv("conv1", net.apply("elemwise_sub", "sub", "split:0", "split:1"), 4, 3)
    renamed = {"bn0": "BatchNorm_v1", "pool0": "Pooling_v1", "bn1": "_contrib_SyncBatchNorm"}
    nodes = [
        (renamed.get(name, op), name, {**each, "key": "bn1"} if name == "bn1" else each, inputs)
        for op, name, each, inputs in net.nodes
    ]
    graph = build(*nodes, heads=["conv1"])
    single = tuple(
        replace(node, operation=replace(node.operation, precision="float32"))
        if node.name in {"lrn", "split"}
        else node
        for node in graph.nodes
    )
    converted = convert(replace(graph, nodes=single), generated_modules.random_parameters(net.shapes))
    proof = graph_proof.prove(converted, RUNS, PYTHON)
    proof.require()
    assert proof.replaced == ("BatchNorm_v1", "Pooling_v1", "_contrib_SyncBatchNorm")
    assert 0 < proof.rewriting < 1e-6  # compared in float32, although only float64 was requested
    errors = {row.node: row.relative for row in proof.nodes}
    assert 1e-12 < errors.pop("lrn") < 1e-6
    assert max(errors.pop("split"), 1e-12) < 1e-6
    assert max(errors.values()) < 1e-13


def test_graph_that_mxnet_refuses_is_not_proven() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 8)
    net.nodes.append(("elemwise_add", "sum", {}, [x, "data"]))
    converted = convert(net.build("sum"), generated_modules.random_parameters(net.shapes))
    with pytest.raises(ReferenceFailedError, match="operator sum"):
        graph_proof.prove(converted, [("float64", {"data": images()})], PYTHON)


def test_converted_graph_is_proven_by_mxnet(tmp_path: Path) -> None:
    net = small_network()
    graph, params = tmp_path / "net-symbol.json", tmp_path / "net-0000.params"
    graph.write_bytes(net.build("softmax").content)
    arrays = generated_modules.random_parameters(net.shapes)
    with params.open("wb") as stream:
        write_params(stream, {name: array.astype(np.float32) for name, array in arrays.items()})
    options = ParityOptions("gluon", sizes=[(32, 47)], dtypes=["float64"])
    with pytest.raises(ReferenceFailedError, match="fc1"):  # its dense layer fits 12 × 10 pixels only
        convert_graph(graph, tmp_path / "out", params=params, options=options)
    assert not list((tmp_path / "out").glob("*"))
    out = tmp_path / "out"
    result = convert_graph(graph, out, params=params, output="stage1_unit2_relu2", options=options)
    assert (result.manifest.parity.proven, result.manifest.parity.reference) == (True, "gluon")
    assert result.manifest.parity.versions["mxnet"] == "1.9.1"


def test_graph_with_several_inputs_is_proven_by_mxnet(tmp_path: Path) -> None:
    """An image, indices below the size of their table, and a state with the shape of a layer."""
    net = Network()
    net.nodes += [variable("words"), variable("state"), variable("table")]
    net.shapes["table"] = (7, 5)
    net.apply("Embedding", "embedded", "words", "table", input_dim="7", output_dim="5")
    x = net.apply("Pooling", "pool0", net.conv("conv0", "data", 1, 5), global_pool="True", pool_type="avg")
    x = net.apply("elemwise_add", "sum", net.dense("fc1", x, 5, 5), "state")
    net.apply("broadcast_add", "out", "embedded", x)
    graph, params = tmp_path / "net-symbol.json", tmp_path / "net-0000.params"
    graph.write_bytes(net.build("out").content)
    with params.open("wb") as stream:
        write_params(stream, generated_modules.random_parameters(net.shapes))
    result = convert_graph(
        graph,
        tmp_path / "out",
        params=params,
        input_shapes={"words": (1, 4)},
        options=ParityOptions("gluon", dtypes=["float64"]),
    )
    (check,) = result.manifest.parity.checks
    assert check.inputs == {"data": (1, 1, 65, 95), "words": (1, 4), "state": (1, 5)}
    assert check.nodes
    assert (check.nodes.compared, check.nodes.undecided, check.nodes.single) == (6, 0, ())
    assert max(check.relative, check.nodes.relative) < check.limit == 1e-12
