"""The inputs of a proof have the shapes that the graph determines, or that the user gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
from graph_building import Network, build, variable

from converter.errors import UsageError
from converter.graphs import codegen, pruning, reader
from converter.parity import graph_inputs
from converter.parity.graph_proof import ConvertedGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graph_building import Described

    from converter.graphs.graph import Graph

Shapes = dict[str, tuple[int, ...]]


def convert(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> ConvertedGraph:
    pruned = pruning.prune(graph)
    return ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=codegen.generate(pruned.graph, shapes, "net"),
        parameters=generated_modules.random_parameters(shapes),
    )


def apply(
    operator: str, attributes: dict[str, str], *inputs: str, **shapes: tuple[int, ...]
) -> ConvertedGraph:
    """Return a graph of one operator; inputs with shapes are its parameters."""
    nodes: list[Described] = [*map(variable, (*inputs, *shapes))]
    return convert(build(*nodes, (operator, "out", attributes, [*inputs, *shapes]), heads=["out"]), shapes)


CONVOLUTION = {"num_filter": "4", "no_bias": "True"}
DENSE = {"num_hidden": "4", "no_bias": "True"}
DERIVED: dict[str, tuple[ConvertedGraph, tuple[int, ...]]] = {
    "gray image": (
        apply("Convolution", {**CONVOLUTION, "kernel": "(3, 3)"}, "x", w=(4, 1, 3, 3)),
        (1, 1, 65, 95),
    ),
    "groups": (
        apply("Convolution", {**CONVOLUTION, "kernel": "(1, 1)", "num_group": "2"}, "x", w=(4, 3, 1, 1)),
        (1, 6, 65, 95),
    ),
    "sequence": (apply("Convolution", {**CONVOLUTION, "kernel": "(3,)"}, "x", w=(4, 2, 3)), (1, 2, 95)),
    "video": (
        apply("Convolution", {**CONVOLUTION, "kernel": "(1, 2, 2)"}, "x", w=(4, 2, 1, 2, 2)),
        (1, 2, 16, 65, 95),
    ),
    "features": (apply("FullyConnected", DENSE, "x", w=(4, 7)), (1, 7)),
    "no parameters": (apply("Activation", {"act_type": "relu"}, "x"), (1, 3, 65, 95)),
}


@pytest.mark.parametrize(("converted", "shape"), DERIVED.values(), ids=DERIVED)
def test_shape_is_derived_from_the_first_layer(converted: ConvertedGraph, shape: tuple[int, ...]) -> None:
    assert graph_inputs.shapes(converted) == {"x": shape}


def test_size_is_that_of_images_and_a_given_shape_is_used() -> None:
    converted, _ = DERIVED["gray image"]
    assert graph_inputs.shapes(converted, (33, 40)) == {"x": (1, 1, 33, 40)}
    assert graph_inputs.shapes(converted, (33, 40), {"x": [2, 1, 5, 6]}) == {"x": (2, 1, 5, 6)}
    with pytest.raises(UsageError, match="has no input y; its inputs are x"):
        graph_inputs.shapes(converted, None, {"y": (1,)})


def test_flattened_input_may_be_flat() -> None:
    nodes: list[Described] = [variable("x"), variable("w"), ("Flatten", "flat", {}, ["x"])]
    graph = build(*nodes, ("FullyConnected", "out", DENSE, ["flat", "w"]), heads=["out"])
    assert graph_inputs.shapes(convert(graph, {"w": (4, 784)})) == {"x": (1, 784)}


def take() -> ConvertedGraph:
    graph = build(variable("w"), variable("x"), ("take", "out", {"axis": "1"}, ["w", "x"]), heads=["out"])
    return convert(graph, {"w": (9, 3)})


@pytest.mark.parametrize("kind", ["Embedding", "take"])
def test_indices_are_whole_numbers_below_the_size_of_their_table(kind: str) -> None:
    embedding = apply("Embedding", {"input_dim": "3", "output_dim": "2"}, "x", w=(3, 2))
    converted = take() if kind == "take" else embedding
    with pytest.raises(UsageError, match=r"(?s)unknown  the shape of x\n.*--input x=1x16"):
        graph_inputs.shapes(converted)
    chosen = graph_inputs.shapes(converted, None, {"x": (4, 25)})
    values = graph_inputs.values(converted, chosen, "float32")["x"]
    assert values.shape == (4, 25)
    assert values.dtype == np.float32
    assert set(values.flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("operator", ["SequenceMask", "SequenceLast", "SequenceReverse"])
@pytest.mark.parametrize("steps", [4, None], ids=["of an input", "of a computed value"])
def test_lengths_are_whole_numbers_up_to_the_number_of_steps(operator: str, steps: int | None) -> None:
    nodes: list[Described] = [variable("x"), variable("lengths"), ("relu", "relu", {}, ["x"])]
    attributes = {"use_sequence_length": "True"}
    inputs = ["x" if steps else "relu", "lengths"]
    converted = convert(build(*nodes, (operator, "out", attributes, inputs), heads=["out", "relu"]), {})
    with pytest.raises(UsageError, match="--input lengths=1, with its shape"):
        graph_inputs.shapes(converted, None, {"x": (4, 50, 3)})
    chosen = graph_inputs.shapes(converted, None, {"x": (4, 50, 3), "lengths": (50,)})
    values = graph_inputs.values(converted, chosen, "float64")["lengths"]
    assert set(values.tolist()) == ({1, 2, 3, 4} if steps else {1})


def two_inputs(operator: str) -> ConvertedGraph:
    net = Network()
    x = net.dense("fc1", "data", 6, 5)
    net.nodes.append(variable("state"))
    net.apply("Activation", "out", net.apply(operator, "sum", x, "state"), act_type="tanh")
    return convert(net.build("out"), net.shapes)


def test_input_added_to_a_layer_has_its_shape() -> None:
    assert graph_inputs.shapes(two_inputs("elemwise_add")) == {"data": (1, 6), "state": (1, 5)}
    with pytest.raises(
        UsageError, match=r"inputs are data, state\n  unknown  the shape of state\n.*--input state="
    ):
        graph_inputs.shapes(two_inputs("broadcast_add"))


def test_inputs_added_to_each_other_have_one_shape() -> None:
    converted = apply("elemwise_add", {}, "x", "y")
    assert graph_inputs.shapes(converted, None, {"y": (2, 3)}) == {"x": (2, 3), "y": (2, 3)}
    with pytest.raises(UsageError, match="the shape of x"):
        graph_inputs.shapes(converted)


@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_shape_that_the_file_states_is_the_default(key: str) -> None:
    net = Network()
    net.conv("conv0", "data", 2, 4)
    content = json.loads(net.build("conv0").content)
    content["nodes"][0] = {"op": "null", "name": "data", "inputs": [], key: {"__shape__": "(0, -1, 40, 50)"}}
    graph = reader.parse(json.dumps(content).encode(), file="net", name="net")
    converted = convert(graph, net.shapes)
    assert graph_inputs.shapes(converted) == {"data": (1, 2, 40, 50)}
    assert graph_inputs.shapes(converted, (33, 34)) == {"data": (1, 2, 33, 34)}


def test_size_that_a_dense_layer_needs_is_found_in_an_export_that_states_shapes_of_parameters() -> None:
    net = Network()
    net.conv("conv0", "data", 3, 2)
    net.apply("Flatten", "flat", "conv0")
    net.dense("fc1", "flat", 2 * 32 * 32, 5)
    content = json.loads(net.build("fc1").content)
    for node in content["nodes"]:
        if node["name"] in net.shapes:
            node["attrs"] = {"__shape__": str(net.shapes[node["name"]])}
    graph = reader.parse(json.dumps(content).encode(), file="net", name="net")
    assert graph_inputs.shapes(convert(graph, net.shapes)) == {"data": (1, 3, 32, 32)}


@pytest.mark.parametrize(
    "text",
    [
        *("(1, 3", "1, 3", "()", "(None, 3)", "(1.5, 3)", "__import__('os')", "(1, 3)" * 50),
        *(
            "(" * 100_000,
            "(1, " * 100_000,
            "(1, 99999999999999999999)",
            "('1', '3')",
            "[[1, 3]]",
            "(1, 2, 3)",
        ),
    ],
    ids=lambda text: f"{text[:9]} {len(text)}",
)
def test_other_texts_than_a_shape_of_an_image_are_not_used(text: str) -> None:
    net = Network()
    net.conv("conv0", "data", 2, 4)
    content = json.loads(net.build("conv0").content)
    content["nodes"][0]["attrs"] = {"__shape__": text}
    graph = reader.parse(json.dumps(content).encode(), file="net", name="net")
    if text == "(1, 2, 3)":  # a shape of something else: used, and refused by the module
        assert graph_inputs.shapes(convert(graph, net.shapes)) == {"data": (1, 2, 3)}
    else:
        assert graph_inputs.shapes(convert(graph, net.shapes)) == {"data": (1, 2, 65, 95)}


@pytest.mark.parametrize("stated", [True, False])
def test_input_that_is_too_large_is_refused(stated: bool) -> None:
    net = Network()
    net.conv("conv0", "data", 2, 4)
    content = json.loads(net.build("conv0").content)
    content["nodes"][0]["attrs"] = {"__shape__": "(1, 2, 11586, 11586)"} if stated else {}
    converted = convert(reader.parse(json.dumps(content).encode(), file="net", name="net"), net.shapes)
    with pytest.raises(UsageError, match=r"the input data is too large: .*\n  try  --input data=SHAPE"):
        graph_inputs.shapes(converted, None, None if stated else {"data": (1, 2, 11586, 11586)})
    smaller = (1, 2, 11585, 11585)
    assert graph_inputs.shapes(converted, None, {"data": smaller}) == {"data": smaller}


@pytest.mark.parametrize("side", [112, 24])
def test_size_that_the_graph_fixes_is_used(side: int) -> None:
    net = Network()
    x = net.conv("conv0", "data", 1, 2, stride=2)
    net.dense("fc1", x, 2 * (side // 2) ** 2, 5)
    converted = convert(net.build("fc1"), net.shapes)
    assert graph_inputs.shapes(converted) == {"data": (1, 1, side, side)}
    assert graph_inputs.shapes(converted, (33, 40)) == {"data": (1, 1, 33, 40)}


def test_graph_of_no_usual_size_gets_the_default() -> None:
    net = Network()
    net.dense("fc1", net.conv("conv0", "data", 1, 2), 2 * 33 * 34, 5)
    converted = convert(net.build("fc1"), net.shapes)
    assert graph_inputs.shapes(converted) == {"data": (1, 1, 65, 95)}
    assert graph_inputs.shapes(converted, (33, 34)) == {"data": (1, 1, 33, 34)}
