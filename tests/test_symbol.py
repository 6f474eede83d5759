from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from converter.errors import ConversionError, SymbolError
from converter.files import symbol
from converter.models import catalog, graph, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.models.catalog import Model

    Graph = dict[str, Any]
    Save = Callable[[Graph | str], Path]

OPERATORS = {"conv": "Convolution", "gate": "Convolution", "dense": "FullyConnected", "pool": "Pooling"}


def attributes(own: dict[str, Any], kind: str) -> dict[str, str]:
    """Write a layer's settings as MXNet 1.9 does."""
    if kind == "dense":
        return {"num_hidden": "10", "no_bias": "False", "flatten": "True"}
    if kind == "batchnorm":
        return {"eps": str(own["eps"]), "momentum": str(own["momentum"]), "fix_gamma": "False"}
    if own.get("global"):
        return {"global_pool": "True", "pool_type": own["pool"], "kernel": "(1, 1)"}
    known = {"kernel": "kernel", "stride": "stride", "padding": "pad", "dilation": "dilate"}
    found = {known[key]: f"({value}, {value})" for key, value in own.items() if key in known}
    if kind != "pool":
        return found | {"num_group": str(own["groups"]), "no_bias": "True"}
    found.pop("dilate", "")  # a pool of MXNet's has none
    found |= {
        "pool_type": own["pool"],
        "count_include_pad": str(own.get("count_include_pad", True)),
    }
    return found | {"pooling_convention": "full" if own["ceil_mode"] else "valid"}


def drawn(model: Model) -> Graph:
    """Return the graph of a model: its layers in a row, each named as its layer."""
    known = settings.of_model(model)
    nodes: list[Graph] = [{"op": "null", "name": "data", "inputs": []}]
    for layer in model.mapping.layers:
        last = len(nodes) - 1
        if layer.kind == "block":
            nodes.append({"op": "elemwise_add", "name": layer.source, "inputs": [[last, 0, 0], [last, 0, 0]]})
            continue
        if layer.kind == "conv" and not layer.on_shortcut:
            inputs = [[last, 0, 0]]
            nodes.append({"op": "Activation", "name": "r", "attrs": {"act_type": "relu"}, "inputs": inputs})
            last += 1
        roles = [tensor.source for tensor in model.mapping.tensors if tensor.layer == layer]
        nodes += [{"op": "null", "name": name, "inputs": []} for name in roles]
        nodes.append(
            {
                "op": OPERATORS.get(layer.kind, "BatchNorm"),
                "name": layer.source,
                "attrs": attributes(known[layer.target], layer.kind),
                "inputs": [[number, 0, 0] for number in (last, *range(last + 1, len(nodes)))],
            }
        )
    return {"nodes": nodes, "arg_nodes": [], "heads": [[len(nodes) - 1, 0, 0]], "attrs": {}}


def node(content: Graph, name: str) -> Graph:
    found: Graph = next(node for node in content["nodes"] if node["name"] == name)
    return found


def changed(content: Graph, layer: str, **changes: str | None) -> Graph:
    """Set attributes of a layer's node, or omit them."""
    attrs = node(content, layer)["attrs"] | changes
    node(content, layer)["attrs"] = {key: value for key, value in attrs.items() if value is not None}
    return content


@pytest.fixture(scope="module")
def pooled() -> Model:
    """A small ResNet v1d: with average pools in its shortcuts."""
    model = catalog.find("gluon_resnet50_v1d")
    return replace(model, name="pooled", config=replace(model.config, depths=(1, 1, 1, 1)))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_graph(content: Graph | str) -> Path:
        path = tmp_path / "net-symbol.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return save_graph


def disagreements(path: Path, model: Model) -> list[str]:
    return graph.disagreements(symbol.read(path), model.mapping, settings.of_model(model))


def test_the_graph_of_a_model_agrees_with_it(tiny: Model, pooled: Model, save: Save) -> None:
    assert disagreements(save(drawn(tiny)), tiny) == []
    assert disagreements(save(drawn(pooled)), pooled) == []


SHORTCUT = "layer2.0.downsample.0"  # a pool, of the pooled model
CHANGES = [  # None omits the attribute; a line "" means that this is what the model has
    ("features.1", "eps", "0.001", "eps 0.001, in the model 1e-05"),
    ("features.1", "eps", "1.00001e-05", "eps 1.00001e-05, in the model 1e-05"),
    ("features.1", "eps", None, "eps 0.001, in the model 1e-05"),
    ("features.5.1.body.4", "momentum", "0.99", "momentum 0.99, in the model 0.9"),
    ("features.5.1.body.4", "momentum", None, ""),
    ("features.0", "kernel", "(7, 5)", "kernel (7, 5), in the model 7"),
    ("features.0", "kernel", None, "kernel 1, in the model 7"),
    ("features.5.0.body.3", "stride", "(1, 1)", "stride 1, in the model 2"),
    ("features.0", "stride", None, "stride 1, in the model 2"),
    ("features.4.0.body.0", "stride", None, ""),
    ("features.0", "pad", "(2, 2)", "padding 2, in the model 3"),
    ("features.0", "pad", None, "padding 0, in the model 3"),
    ("features.4.0.body.0", "pad", None, ""),
    ("features.7.0.body.3", "dilate", "(2, 2)", "dilation 2, in the model 1"),
    ("features.7.0.body.3", "dilate", None, ""),
    ("features.7.0.body.3", "num_group", "1", "groups 1, in the model 2"),
    ("features.7.0.body.3", "num_group", None, "groups 1, in the model 2"),
    ("features.0", "num_group", None, ""),
    ("features.0", "layout", "NHWC", "layout NHWC, in the model NCHW"),
    ("features.1", "axis", "3", "axis 3, in the model 1"),
    ("features.3", "kernel", "(2, 2)", "kernel 2, in the model 3"),
    ("features.3", "stride", "(3, 3)", "stride 3, in the model 2"),
    ("features.3", "pad", "(0, 0)", "padding 0, in the model 1"),
    (SHORTCUT, "pad", None, ""),
    ("features.3", "pooling_convention", "full", "ceil_mode True, in the model False"),
    ("features.3", "pooling_convention", None, ""),
    (SHORTCUT, "pooling_convention", "valid", "ceil_mode False, in the model True"),
    (SHORTCUT, "pooling_convention", None, "ceil_mode False, in the model True"),
    (SHORTCUT, "count_include_pad", "True", "count_include_pad True, in the model False"),
    (SHORTCUT, "count_include_pad", None, "count_include_pad True, in the model False"),
    ("features.3", "pool_type", "avg", "pool avg, in the model max"),
    ("features.3", "pool_type", None, ""),
    ("features.8", "pool_type", "max", "pool max, in the model avg"),
    ("features.8", "pool_type", None, "pool max, in the model avg"),
    ("features.3", "global_pool", "True", "global True, in the model False"),
    ("features.3", "global_pool", None, ""),
    ("features.8", "global_pool", None, "global False, in the model True"),
    *(("features.0", "kernel", text, "") for text in ("(7L, 7L)", "[7,7]", "[7, 7]", "7", " ( 7 ,7 )")),
    *(("features.0", "kernel", text, "kernel 3, in the model 7") for text in ("(3L, 3L)", "[3,3]", "3")),
    *(("features.0", "kernel", text, "kernel 1, in the model 7") for text in ("()", "[]", "")),
]


@pytest.mark.parametrize(("layer", "attribute", "value", "line"), CHANGES)
def test_a_setting_that_is_another_is_named(
    layer: str, attribute: str, value: str | None, line: str, tiny: Model, pooled: Model, save: Save
) -> None:
    model = pooled if layer == SHORTCUT else tiny
    path = save(changed(drawn(model), layer, **{attribute: value}))
    found = disagreements(path, model)
    assert f"{layer}: {line}" in found if line else found == []


FIX_GAMMA = {None: True, "True": True, "true": True, "1": True, "False": False, "false": False, "0": False}


@pytest.mark.parametrize(("value", "fixed"), FIX_GAMMA.items())
def test_gammas_that_mxnet_takes_for_ones_are_listed(
    value: str | None, fixed: bool, tiny: Model, save: Save
) -> None:
    path = save(changed(drawn(tiny), "features.5.1.body.4", fix_gamma=value))
    expected = ["features.5.1.body.4.gamma"] if fixed else []
    assert graph.fixed_gammas(symbol.read(path), tiny.mapping) == expected
    assert disagreements(path, tiny) == []


@pytest.mark.parametrize("key", ["attr", "param", "attrs"])
def test_attributes_are_found_where_any_version_keeps_them(key: str, tiny: Model, save: Save) -> None:
    content = changed(drawn(tiny), "features.1", eps="0.002")
    for found in content["nodes"]:
        found.update({"attr": {"ctx_group": "dev1"}, key: found.pop("attrs", None)})
    assert disagreements(save(content), tiny) == ["features.1: eps 0.002, in the model 1e-05"]


OPERATORS_MORE = [
    *((operator, "relu", False) for operator in ("LeakyReLU", "Deconvolution", "SwapAxis", "LRN", "")),
    *((operator, "tanh", True) for operator in ("Flatten", "Dropout", "SoftmaxOutput")),
]


@pytest.mark.parametrize(("operator", "function", "known"), OPERATORS_MORE)
def test_an_operator_that_no_model_has_is_named(
    operator: str, function: str, known: bool, tiny: Model, save: Save
) -> None:
    content = drawn(tiny)
    content["nodes"].append({"op": operator, "name": "x", "attrs": {"act_type": function}, "inputs": []})
    expected = [] if known else [f"an operator that the model has not: {operator}"]
    assert disagreements(save(content), tiny) == expected


@pytest.mark.parametrize("operator", ["Activation", "_npx_activation"])
def test_an_activation_that_no_model_has_is_named(operator: str, tiny: Model, save: Save) -> None:
    content = drawn(tiny)
    content["nodes"].append({"op": operator, "name": "x", "attrs": {"act_type": "tanh"}, "inputs": []})
    assert disagreements(save(content), tiny) == ["an operator that the model has not: Activation tanh"]


@pytest.mark.parametrize(
    ("operator", "line"),
    [
        ("elemwise_add", "sum: 5 expected, 6 found"),
        ("broadcast_mul", "product: 0 expected, 1 found"),
        ("sigmoid", "sigmoid: 0 expected, 1 found"),
        ("Activation", "sigmoid: 0 expected, 1 found"),
        ("mean", "global mean: 0 expected, 1 found"),
        ("relu", "ReLU: 16 expected, 17 found"),
    ],
)
def test_an_operator_more_of_a_kind_that_the_model_has_is_counted(
    operator: str, line: str, tiny: Model, save: Save
) -> None:
    content = drawn(tiny)
    content["nodes"].append({"op": operator, "name": "x", "attrs": {"act_type": "sigmoid"}, "inputs": []})
    assert disagreements(save(content), tiny) == [line]


OTHER_LAYERS = [
    ("features.5.1.body.4", {"op": "identity"}, "missing: features.5.1.body.4"),
    ("features.1.gamma", {"name": "x.gamma"}, "no layer of the model: features.1, BatchNorm of x.gamma, "),
    ("features.3", {"op": "identity"}, "2 pools expected, 1 found"),
    ("features.4.0", {"op": "Pooling"}, "2 pools expected, 3 found"),
    (
        "features.1",
        {"op": "Convolution"},
        "no layer of the model: features.1, Convolution of features.1.gamma, ",
    ),
    ("features.0", {"op": "FullyConnected"}, "no layer of the model: features.0, FullyConnected of "),
    ("features.3", {"op": "BatchNorm"}, "no layer of the model: features.3, BatchNorm of nothing"),
    ("features.1", {"inputs": [[2], [4], [3], [5], [6]]}, "no layer of the model: features.1, BatchNorm of "),
]


@pytest.mark.parametrize(("name", "change", "complaint"), OTHER_LAYERS)
def test_a_graph_of_other_layers_is_refused(
    name: str, change: Graph, complaint: str, tiny: Model, save: Save
) -> None:
    content = drawn(tiny)
    node(content, name).update(change)
    with pytest.raises(ConversionError, match=re.escape(complaint)):
        disagreements(save(content), tiny)


def test_a_second_node_of_a_layer_is_refused(tiny: Model, save: Save) -> None:
    content = drawn(tiny)
    content["nodes"].append(dict(node(content, "features.1"), name="another"))
    with pytest.raises(SymbolError, match=r"no layer of the model: another, BatchNorm of features\.1\.gamma"):
        disagreements(save(content), tiny)


UNREADABLE = [
    ("features.1", "eps", "tiny"),
    ("features.1", "fix_gamma", "perhaps"),
    ("features.0", "kernel", "(7, x)"),
    ("features.0", "kernel", {"h": 7}),
    ("features.0", "num_group", "2.5"),
    ("features.0", "num_group", "9" * 5000 + "x"),
    ("features.0", "kernel", "(7, 7, 7)"),
    ("features.3", "global_pool", "2"),
]


@pytest.mark.parametrize(("layer", "attribute", "value"), UNREADABLE)
def test_a_value_that_cannot_be_read_is_refused_with_its_node(
    layer: str, attribute: str, value: object, tiny: Model, save: Save
) -> None:
    content = drawn(tiny)
    node(content, layer)["attrs"][attribute] = value
    with pytest.raises(SymbolError, match=rf"node \d+, {re.escape(layer)}: {attribute} is "):
        symbol.read(save(content))


def convolution(**parts: object) -> str:
    found = {"op": "Convolution", "name": "c", "inputs": [[0, 0, 0]], **parts}
    return json.dumps({"nodes": [found]}).replace("Infinity", "1e999")


ENTRIES = [None, [], ["x"], [1], [10**30], [-2], [-1], [float("inf")], [float("nan")]]
MALFORMED = {
    **{text: text for text in ("", "PK", '{"nodes": [', "\x00", "[]", "7", "null", "{}")},
    **{text: text for text in ('{"nodes": null}', '{"nodes": 3}', '{"nodes": [3]}', '{"nodes": [{}]}')},
    "deep": '{"nodes": ' + "[" * 200_000,
    "attributes in a list": convolution(attrs=["eps"]),
    "no inputs": convolution(inputs=None),
    **{f"input {entry}": convolution(inputs=[[0], entry]) for entry in ENTRIES},
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_file_that_is_no_graph_is_refused(content: str, save: Save) -> None:
    path = save(content)
    with pytest.raises(
        SymbolError, match=rf"^{re.escape(str(path))}: (no symbol file|node 0, c: its inputs are )"
    ):
        symbol.read(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    with path.open("wb") as stream:
        stream.truncate(symbol.MAX_BYTES + 1)  # which takes no room on the disk
    with pytest.raises(SymbolError, match=f"more than {symbol.MAX_BYTES} bytes"):
        symbol.read(path)


@pytest.mark.parametrize(
    ("place", "reason"), [("missing.json", "No such file"), (".", "a file was expected")]
)
def test_a_file_that_cannot_be_read_is_refused(place: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SymbolError, match=reason):
        symbol.read(tmp_path / place)


BESIDE = {
    **dict.fromkeys(("net-0000.params", "net-0123.params.gz", "net.params", "net.params.zip"), True),
    **dict.fromkeys(("net-000.params", "net-0000.npz", "other-0000.params", "net"), False),
}


@pytest.mark.parametrize(("name", "found"), BESIDE.items())
def test_the_graph_beside_a_file_is_found_by_its_name(name: str, found: bool, tmp_path: Path) -> None:
    graph_file = tmp_path / "net-symbol.json"
    assert symbol.beside(tmp_path / name) is None
    graph_file.touch()
    assert symbol.beside(tmp_path / name) == (graph_file if found else None)


def test_other_outputs_are_named(tiny: Model, save: Save) -> None:
    content = drawn(tiny)
    content["heads"].append([1, 0, 0])
    assert disagreements(save(content), tiny) == ["its outputs are those of FullyConnected, Activation relu"]


@pytest.mark.parametrize(("layer", "found"), [("features.0", False), ("output", True)])
def test_a_bias_more_or_less_is_named(layer: str, found: bool, tiny: Model, save: Save) -> None:
    path = save(changed(drawn(tiny), layer, no_bias=str(found)))
    assert disagreements(path, tiny) == [f"{layer}: no_bias {found}, in the model {not found}"]


def test_more_nodes_than_any_network_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps({"nodes": [0] * (symbol.MAX_NODES + 1), "heads": []}))
    with pytest.raises(SymbolError, match=f"more than {symbol.MAX_NODES} nodes"):
        symbol.read(path)
