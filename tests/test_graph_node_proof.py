"""A proof compares every node for the reference's own inputs; after discrete operators, only that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
from graph_building import Network, variable

from converter.errors import ParityError, ReferenceFailedError
from converter.graphs import codegen, execute, pruning
from converter.manifests import graph_builder
from converter.parity import graph_proof
from converter.parity.graph_proof import ConvertedGraph
from converter.parity.graph_rows import GraphProof, Part
from converter.references import child_process, symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from converter.dtypes import Array
    from converter.graphs.graph import Graph, Operation


def convert(net: Network, graph: Graph) -> ConvertedGraph:
    pruned = pruning.prune(graph)
    return ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=codegen.generate(pruned.graph, net.shapes, "net"),
        parameters=generated_modules.random_parameters(net.shapes),
    )


def image() -> Array:
    array: Array = np.random.Generator(np.random.PCG64(1)).normal(0, 1, (1, 3, 8, 6))
    return array


@dataclass(frozen=True)
class Reference:
    """The outputs of another graph with the same nodes."""

    graph: Graph
    converted: ConvertedGraph
    order: Sequence[int] = (0,)

    def outputs(self, _number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
        return execute.run(self.graph, {"data": image()}, self.converted.parameters)


def changed(converted: ConvertedGraph, name: str, expression: str) -> ConvertedGraph:
    """Return a module in which one node is computed by another expression on its own."""
    (index,) = (i for i, node in enumerate(converted.pruned.graph.nodes) if node.name == name)
    expressions = {**converted.module.expressions, index: expression}
    return replace(converted, module=replace(converted.module, expressions=expressions))


def prove(converted: ConvertedGraph, graph: Graph) -> GraphProof:
    """Prove a module with the outputs of another graph as the reference."""
    rows, _ = graph_proof.compare(converted, [("float64", {"data": image()})], Reference(graph, converted))
    return GraphProof(comparisons=rows, versions={})


def with_operation(graph: Graph, name: str, **changes: object) -> Graph:
    """Return a graph with another operation in one node."""

    def changed(operation: Operation) -> Operation:
        return replace(operation, **changes)  # type: ignore[arg-type]

    nodes = [
        replace(node, operation=changed(node.operation)) if node.name == name else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def rectified(slope: str) -> tuple[Network, Graph]:
    """Return a network in which the slope has no effect on the output."""
    net = Network()
    x = net.apply("LeakyReLU", "leaky0", net.conv("conv0", "data", 3, 4), slope=slope)
    net.conv("conv1", net.apply("Activation", "relu0", x, act_type="relu"), 4, 2)
    return net, net.build("conv1")


def test_wrong_node_without_an_effect_on_the_outputs_is_caught() -> None:
    net, right = rectified("0.1")
    assert prove(convert(net, right), right).passed
    proof = prove(convert(*rectified("0.2")), right)
    assert all(row.passed for row in proof.rows)
    assert [row.node for row in proof.comparisons if not row.passed] == ["leaky0"]
    message = r"in float64\n  first at  leaky0 → its expression\n  compared  node by node\n"
    with pytest.raises(ParityError, match=message):
        proof.require()


def test_every_node_is_compared_with_its_own_code() -> None:
    net, graph = rectified("0.1")
    converted = convert(net, graph)
    proof = prove(converted, graph)
    assert [row.node for row in proof.nodes] == ["conv0", "leaky0", "relu0", "conv1"]
    for node, expression in converted.module.expressions.items():
        wrong = {**converted.module.expressions, node: f"({expression}) * 1.0000001"}
        changed = replace(converted, module=replace(converted.module, expressions=wrong))
        failed = [row.node for row in prove(changed, graph).comparisons if not row.passed]
        assert failed == [graph.nodes[node].name]


def rounded() -> tuple[Network, Graph]:
    """Return a network whose rounding decides about numbers that two computations may see differently."""
    net = Network()
    x = net.apply("_plus_scalar", "half", net.apply("round", "whole", "data"), scalar="0.5")
    x = net.apply("round", "discrete", x)
    net.apply("elemwise_sub", "out", net.apply("_mul_scalar", "scaled", x, scalar="3"), "data")
    return net, with_operation(net.build("out"), "discrete", discrete=True)


def test_outputs_after_a_discrete_operator_are_proven_node_by_node() -> None:
    net, graph = rounded()
    assert prove(convert(net, graph), graph).passed
    nearly = with_operation(graph, "half", compute=lambda x: np.nextafter(np.round(x) + 0.5, -np.inf))
    proof = prove(convert(net, graph), nearly)
    (output,) = proof.rows
    assert (proof.passed, output.agrees, output.decisive) == (True, False, False)
    assert [row.node for row in proof.comparisons if row.part is Part.composition] == ["out"]
    undeclared = with_operation(graph, "discrete", discrete=False)
    assert not prove(convert(net, undeclared), nearly).passed


CHANGES = {
    "the discrete operator": ({"compute": np.floor}, "discrete", Part.node),
    "a node after it": ({"compute": lambda x: x * 3.0000001}, "scaled", Part.node),
}


@pytest.mark.parametrize(("changes", "name", "part"), CHANGES.values(), ids=CHANGES)
def test_wrong_node_at_or_after_a_discrete_operator_is_caught(
    changes: dict[str, object], name: str, part: Part
) -> None:
    net, graph = rounded()
    proof = prove(convert(net, graph), with_operation(graph, name, **changes))
    assert [(row.node, row.part) for row in proof.comparisons if not row.passed] == [(name, part)]


def test_wrong_order_of_nodes_after_a_discrete_operator_is_caught() -> None:
    net, graph = rounded()
    converted = convert(net, graph)
    assert "return x - data" in converted.module.source
    source = converted.module.source.replace("return x - data", "return data - x")
    proof = prove(replace(converted, module=replace(converted.module, source=source)), graph)
    assert [(row.node, row.part) for row in proof.comparisons if not row.passed] == [
        ("out", Part.composition)
    ]


def test_operators_in_float32_have_a_wider_limit() -> None:
    net, graph = rectified("0.1")
    graph = with_operation(graph, "relu0", precision="float32")
    near = with_operation(graph, "relu0", compute=lambda x: np.maximum(x, 0) * (1 + 1e-8))
    proof = prove(convert(net, graph), near)
    assert proof.passed
    assert {row.node for row in proof.nodes if row.limit > 1e-12} == {"relu0"}
    assert {row.node for row in proof.rows if row.limit > 1e-12} == {"conv1"}
    far = with_operation(graph, "relu0", compute=lambda x: np.maximum(x, 0) * (1 + 1e-5))
    assert not prove(convert(net, graph), far).passed
    assert not prove(convert(*rectified("0.1")), near).passed


def test_node_that_the_reference_does_not_compute_is_an_error() -> None:
    net, graph = rectified("0.1")
    converted = convert(net, graph)
    outputs = list(Reference(graph, converted).outputs(0))

    class Incomplete(Reference):
        def outputs(self, _number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
            return iter(outputs[:-1])

    with pytest.raises(ParityError, match="conv1: the reference did not compute its 1 outputs"):
        graph_proof.compare(converted, [("float64", {"data": image()})], Incomplete(graph, converted))


@pytest.mark.parametrize(("place", "failed"), [(0, ["split"]), (1, ["split"]), (2, [])])
def test_outputs_that_other_nodes_take_are_all_compared(place: int, failed: list[str]) -> None:
    """MXNet does not compute the others."""
    net = Network()
    net.apply("SliceChannel", "split", "data", num_outputs="3")
    net.apply("elemwise_sub", "out", "split:0", "split:1")
    graph = net.build("out")
    assert prove(convert(net, graph), graph).passed

    def compute(x: Array) -> tuple[Array, ...]:
        parts = np.split(x, 3, axis=1)
        parts[place] = np.zeros_like(parts[place])
        return tuple(parts)

    other = with_operation(graph, "split", compute=compute)
    rows = prove(convert(net, graph), other).nodes
    assert [row.node for row in rows if not row.passed] == failed


def test_labels_and_casts_do_not_shift_the_nodes() -> None:
    net = Network()
    net.nodes.append(variable("label"))
    net.apply("SoftmaxOutput", "softmax", net.dense("fc1", "data", 144, 5), "label")
    graph = net.build("softmax")
    assert [row.node for row in prove(convert(net, graph), pruning.prune(graph).graph).nodes] == [
        "fc1",
        "softmax",
    ]


def stream(folder: Path, commands: str) -> Path:
    """Return a script that takes the place of the interpreter with MXNet."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
    return path


BEGIN = """printf '{"begin":0}\\n'"""
BROKEN = {
    "no reply": ("exit 3", "its process ended with status 3"),
    "another run": ("""printf '{"begin":1}\\n'""", "its process ended"),
    "no JSON": ("echo hello", "its process ended"),
    "a part of an array": (
        BEGIN + """; printf '{"node":0,"output":0,"dtype":"<f8","shape":[2,2]}\\nabc'""",
        "its process ended",
    ),
    "no end": (BEGIN, "its process ended"),
    "no output": (BEGIN + "; exec sleep 60", r"it computed no output for 0\.3 seconds"),
}


@pytest.mark.parametrize(("commands", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_stream_is_an_error(
    commands: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "PATIENCE_SECONDS", 0.3)
    net, graph = rectified("0.1")
    converted = convert(net, graph)
    request = graph_proof.request(converted, [("float64", {"data": image()})])
    with (
        symbol.start(stream(tmp_path, commands), request) as child,
        pytest.raises(ReferenceFailedError, match=message),
    ):
        list(child.outputs(0))


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("torch.cat([{0}, {0}[:, :2, :1]])", "Sizes of tensors must match"),
        ("{0}.split(1, 1)[:3]", "3 outputs in place of 2"),
        ("[{0}]", "1 outputs in place of 2"),
    ],
)
def test_node_that_cannot_be_computed_on_its_own_is_named(expression: str, found: str) -> None:
    net = Network()
    net.apply("SliceChannel", "split", net.conv("conv0", "data", 3, 8), num_outputs="2")
    graph = net.build("split", "split:1")
    converted = convert(net, graph)
    assert prove(converted, graph).passed
    message = (
        rf"(?s)^split cannot be computed on its own, from inputs of shape \(1, 8, 8, 6\)\n  found .*{found}"
    )
    with pytest.raises(ParityError, match=message):
        prove(changed(converted, "split", expression), graph)


def test_layers_that_differ_after_a_sort_are_not_counted() -> None:
    net = Network()
    x = net.apply("Flatten", "flat", net.conv("conv0", "data", 3, 8))
    x = net.apply("topk", "top", x, k="6", ret_typ="value")
    net.dense("fc1", net.dense("fc0", x, 6, 4), 4, 2)
    graph = net.build("fc1")
    runs = [("float64", {"data": image()})]
    proof = prove(convert(net, graph), graph)
    (check,) = graph_builder.parity(proof, "numpy", runs).checks
    assert (check.layers, check.nodes.undecided if check.nodes else None) == (
        4,
        0,
    )  # three layers, one output
    rows = tuple(
        replace(row, difference=replace(row.difference, relative=1.0))
        if row.node in {"fc0", "fc1"} and row.part is Part.end_to_end
        else row
        for row in proof.comparisons
    )
    apart = replace(proof, comparisons=rows)
    assert apart.passed
    (check,) = graph_builder.parity(apart, "numpy", runs).checks
    # fc0, fc1 and the output differ end to end; the output is proven by the composition of its nodes.
    assert (check.layers, check.nodes.undecided if check.nodes else None) == (2, 3)
