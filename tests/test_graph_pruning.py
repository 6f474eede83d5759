"""A graph is reduced to what inference needs, and what cannot be converted is listed."""

from __future__ import annotations

import json

import pytest
from graph_building import Described, build, variable

from converter.errors import SymbolError
from converter.graphs import pruning, reader, support

RELU: Described = ("Activation", "relu", {"act_type": "relu"}, ["data"])
SOFTMAX: Described = ("SoftmaxOutput", "softmax", {}, ["relu", "label"])


def test_label_is_removed() -> None:
    pruned = pruning.prune(build(variable("data"), variable("label"), RELU, SOFTMAX, heads=["softmax"]))
    assert [node.name for node in pruned.graph.nodes] == ["data", "relu", "softmax"]
    assert pruned.graph.nodes[-1].inputs == ((1, 0),)
    assert (pruned.labels, pruned.heads) == (("label",), ())
    assert pruned.origins == (0, 1, 3)


def test_head_that_depends_on_the_label_is_removed() -> None:
    loss: Described = ("elemwise_sub", "loss", {}, ["relu", "label"])
    graph = build(variable("data"), variable("label"), RELU, SOFTMAX, loss, heads=["softmax", "loss"])
    pruned = pruning.prune(graph)
    assert [pruned.graph.nodes[index].name for index, _ in pruned.graph.outputs] == ["softmax"]
    assert pruned.heads == ("loss",)


@pytest.mark.parametrize("operator", ["WarpCTC", "_contrib_MultiBoxTarget"])
def test_head_that_depends_on_a_loss_is_removed(operator: str) -> None:
    inputs = [variable("data"), variable("label"), RELU]
    count = 3 if operator == "_contrib_MultiBoxTarget" else 2
    loss: Described = (operator, "loss", {}, ["relu", "label", "data"][:count])
    pruned = pruning.prune(build(*inputs, loss, heads=["loss", "relu"]))
    assert (pruned.heads, [node.name for node in pruned.graph.nodes]) == (("loss",), ["data", "relu"])


def test_margin_of_a_face_network_is_removed_by_choosing_an_output() -> None:
    """ArcFace's only head is the softmax of logits that depend on the label."""
    margin: Described = ("elemwise_mul", "margin", {}, ["relu", "label"])
    softmax: Described = ("SoftmaxOutput", "softmax", {}, ["margin", "label"])
    graph = build(variable("data"), variable("label"), RELU, margin, softmax, heads=["softmax"])
    with pytest.raises(
        SymbolError, match=r"(?s)every output depends on a label or a loss.*found  label.*--output NODE"
    ):
        pruning.prune(graph)
    pruned = pruning.prune(graph, "relu")
    assert (pruned.graph.outputs, pruned.heads) == (((1, 0),), ("softmax",))
    assert pruning.prune(graph, "relu_output") == pruned


def test_unknown_output_is_refused_with_the_last_nodes() -> None:
    graph = build(variable("data"), RELU, heads=["relu"])
    with pytest.raises(SymbolError, match=r"no node is named fc1\nThe last nodes are\n  relu"):
        pruning.prune(graph, "fc1")


def test_output_with_the_name_of_two_nodes_is_refused() -> None:
    other = ("Activation", "relu", {"act_type": "tanh"}, ["data"])
    content = json.loads(build(variable("data"), RELU, heads=["relu"]).content)
    content["nodes"].append({"op": other[0], "name": "relu", "attrs": other[2], "inputs": [[1, 0, 0]]})
    content["heads"] = [[2, 0, 0]]
    graph = reader.parse(json.dumps(content).encode(), file="net-symbol.json", name="net-symbol.json")
    with pytest.raises(SymbolError, match="2 nodes are named relu"):
        pruning.prune(graph, "relu")


def test_every_operator_that_cannot_be_converted_is_listed() -> None:
    graph = build(
        variable("data"),
        ("Custom", "python", {"op_type": "x"}, ["data"]),
        ("_random_normal", "noise", {}, ["python"]),
        ("MyOwn", "mine", {}, ["noise"]),
        ("Pooling", "pool", {"pool_type": "lp", "kernel": "(2, 2)"}, ["mine"]),
        ("Pooling", "pool1", {"pool_type": "lp", "kernel": "(2, 2)"}, ["pool"]),
        heads=["pool1"],
    )
    with pytest.raises(SymbolError) as error:
        support.require(graph)
    assert str(error.value).splitlines() == [
        "net-symbol.json: operators that cannot be converted: 4",
        "  Custom          runs Python code that the graph does not contain (nodes: 1, first python)",
        "  MyOwn           unknown operator (nodes: 1, first mine)",
        "  Pooling         pool_type is not max, avg or sum (nodes: 2, first pool)",
        "  _random_normal  draws random numbers (nodes: 1, first noise)",
        "  --output NODE converts the part of the graph before them",
    ]
    assert support.operator_counts(graph)["Pooling"] == 2
    support.require(build(variable("data"), RELU, heads=["relu"]))
