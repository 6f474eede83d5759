"""A graph is matched without its casts and its exported preprocessing, and up to its last feature map."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from symbols import inserted, node, symbol

from converter.errors import SymbolError
from converter.graphs import reader, rewriting
from converter.networks import exported_preprocessing, wiring

if TYPE_CHECKING:
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.wiring import Wiring

    Symbol = dict[str, Any]


def graph_of(content: Symbol) -> Graph:
    return reader.parse(json.dumps(content).encode(), file="net-symbol.json", name="net-symbol.json")


def match(content: Symbol, model: Model) -> Wiring:
    return wiring.match(graph_of(content), model)


@pytest.mark.parametrize("op", ["Cast", "cast", "amp_cast"])
@pytest.mark.parametrize(
    "place", ["data", "features.0.weight", "features.4.0.body.1.gamma", "features.4.0.body.0", "output"]
)
def test_cast_between_floating_types_is_bypassed(op: str, place: str, tiny: Model) -> None:
    plain, content = symbol(tiny), inserted(symbol(tiny), place, op, {"dtype": "float16"})
    result = match(content, tiny)
    assert result.casts
    assert "inserted" not in {each.name for each in result.body.nodes}
    assert len(result.body.nodes) == len(plain["nodes"])
    names = {layer: result.body.nodes[index].name for layer, index in result.nodes.items()}
    expected = match(plain, tiny)
    assert names == {layer: expected.body.nodes[index].name for layer, index in expected.nodes.items()}
    assert not expected.casts


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_cast_to_integers_is_refused(dtype: str, tiny: Model) -> None:
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(inserted(symbol(tiny), "features.4.0.body.0", "Cast", {"dtype": dtype}), tiny)


def multicast(content: Symbol, name: str, *, exchanged: bool = False) -> Symbol:
    """Cast all inputs of the last node that reads ``name`` in one operator."""
    nodes = content["nodes"]
    number = nodes.index(node(content, name))
    reader_node = next(each for each in reversed(nodes) if number in {entry[0] for entry in each["inputs"]})
    place, entries = nodes.index(reader_node), reader_node["inputs"]
    attrs = {"num_outputs": str(len(entries))}
    for each in nodes[place:]:
        each["inputs"] = [[old + (old >= place), *rest] for old, *rest in each["inputs"]]
    content["heads"] = [[old + (old >= place), *rest] for old, *rest in content["heads"]]
    nodes.insert(place, {"op": "amp_multicast", "name": "inserted", "attrs": attrs, "inputs": entries})
    outputs = [[place, output, 0] for output in range(len(entries))]
    reader_node["inputs"] = outputs[::-1] if exchanged else outputs
    return content


def test_multicast_is_bypassed_output_by_output(tiny: Model) -> None:
    result = match(multicast(symbol(tiny), "output.weight"), tiny)
    assert result.casts
    assert result.variables["output.weight"] == "output.weight"
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(multicast(symbol(tiny), "output.weight", exchanged=True), tiny)


def preprocessed(content: Symbol, **changes: Any) -> Symbol:  # noqa: ANN401 - parts of the graph
    """Put GluonCV's preprocessing before a network, with changes."""
    parts = {
        "names": ("_defaultpreprocess0_init_mean", "_defaultpreprocess0_init_scale"),
        "operators": ("broadcast_sub", "broadcast_div", "transpose"),
        "axes": "(0, 3, 1, 2)",
        "reversed": False,
        **changes,
    }
    subtract, divide, transpose = parts["operators"]
    operands = [[1, 0, 0], [0, 0, 0]] if parts["reversed"] else [[0, 0, 0], [1, 0, 0]]
    added = [
        {"op": "null", "name": parts["names"][0], "inputs": []},
        {"op": subtract, "name": "minus0", "attrs": {}, "inputs": operands},
        {"op": "null", "name": parts["names"][1], "inputs": []},
        {"op": divide, "name": "div0", "attrs": {}, "inputs": [[2, 0, 0], [3, 0, 0]]},
        {"op": transpose, "name": "transpose0", "attrs": {"axes": parts["axes"]}, "inputs": [[4, 0, 0]]},
    ]
    for each in content["nodes"][1:]:
        each["inputs"] = [[old + len(added), *rest] for old, *rest in each["inputs"]]
    content["heads"] = [[old + len(added), *rest] for old, *rest in content["heads"]]
    content["nodes"][1:1] = added
    return content


def test_exported_preprocessing_is_bypassed(tiny: Model) -> None:
    content = preprocessed(symbol(tiny))
    result = match(content, tiny)
    assert result.constants == ("_defaultpreprocess0_init_mean", "_defaultpreprocess0_init_scale")
    assert result.data == "data"
    assert result.body.nodes[0].name == "data"
    assert len(result.body.nodes) == len(symbol(tiny)["nodes"])
    assert result.graph.nodes == graph_of(content).nodes


def test_children_of_a_list_are_recognized(tiny: Model) -> None:
    assert match(preprocessed(symbol(tiny), names=("0.init_mean", "0.init_scale")), tiny).constants


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": "(0, 3, 2, 1)"},
        {"operators": ("broadcast_add", "broadcast_div", "transpose")},
        {"operators": ("broadcast_sub", "broadcast_mul", "transpose")},
        {"operators": ("broadcast_div", "broadcast_sub", "transpose")},
        {"names": ("_defaultpreprocess0_init_scale", "_defaultpreprocess0_init_mean")},
        {"names": ("_defaultpreprocess0_init_mean", "scale")},
        {"reversed": True},
    ],
)
def test_another_preprocessing_is_refused(changes: dict[str, Any], tiny: Model) -> None:
    content = preprocessed(symbol(tiny), **changes)
    assert exported_preprocessing.find(graph_of(content)) is None
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(content, tiny)


def with_two_stems(content: Symbol) -> Symbol:
    """Compute the stem a second time, for the first shortcut."""
    nodes = content["nodes"]
    end = nodes.index(node(content, "features.3")) + 1
    operators = [number for number in range(end) if nodes[number]["op"] != "null"]
    copies = {number: end + place for place, number in enumerate(operators)}

    def later(entry: list[int]) -> list[int]:
        return [entry[0] + len(copies) if entry[0] >= end else entry[0], *entry[1:]]

    for each in nodes[end:]:
        each["inputs"] = [later(entry) for entry in each["inputs"]]
    content["heads"] = [later(entry) for entry in content["heads"]]
    nodes[end:end] = [
        nodes[number] | {"inputs": [[copies.get(old, old), *rest] for old, *rest in nodes[number]["inputs"]]}
        for number in operators
    ]
    node(content, "features.4.0.downsample.0")["inputs"][0] = [copies[end - 1], 0, 0]
    return content


def test_network_that_also_reads_the_images_is_refused(tiny: Model) -> None:
    content = preprocessed(with_two_stems(symbol(tiny)))
    assert match(content, tiny).constants
    second = [each for each in content["nodes"] if each["name"] == "features.0"][1]
    second["inputs"][0] = [0, 0, 0]
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(content, tiny)


def larger(content: Symbol, feature_map: str) -> Symbol:
    """Return the graph of a network that puts a convolution on a feature map."""
    nodes = content["nodes"]
    nodes += [
        {"op": "null", "name": "head_weight", "inputs": []},
        {
            "op": "Convolution",
            "name": "head",
            "attrs": {"kernel": "(1, 1)", "num_filter": "4", "no_bias": "True"},
            "inputs": [[nodes.index(node(content, feature_map)), 0, 0], [len(nodes), 0, 0]],
        },
    ]
    content["heads"] = [[len(nodes) - 1, 0, 0]]
    return content


def last_block(content: Symbol) -> str:
    """Return the node of the last feature map: the input of the pool."""
    return str(content["nodes"][node(content, "features.8")["inputs"][0][0]]["name"])


def test_backbone_in_a_larger_graph_is_matched(tiny: Model) -> None:
    backbone, content = tiny.with_config(num_classes=0), symbol(tiny)
    result = match(larger(content, last_block(content)), backbone)
    assert "features.8" not in result.nodes  # the graph has no pool there
    assert "features.7.0" in result.nodes
    assert not result.softmax


def test_backbone_that_the_larger_graph_uses_in_part_is_refused(tiny: Model) -> None:
    content = symbol(tiny)
    before = str(content["nodes"][node(content, "features.7.0.body.0")["inputs"][0][0]]["name"])
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(larger(content, before), tiny.with_config(num_classes=0))


def test_whole_network_is_not_matched_in_a_larger_graph(tiny: Model) -> None:
    content = symbol(tiny)
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        match(larger(content, last_block(content)), tiny)


def test_bypass_keeps_the_file_and_its_names(tiny: Model) -> None:
    graph = graph_of(inserted(symbol(tiny), "data", "Cast", {"dtype": "float16"}))
    body = rewriting.bypass(graph, rewriting.casts(graph))
    assert (body.file, body.name, body.path) == (graph.file, graph.name, graph.path)
    assert body.parameters == graph_of(symbol(tiny)).parameters
