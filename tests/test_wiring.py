"""A graph matches a model if it has the same operations, connections, parameters and settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from symbols import changed, inserted, node, symbol

from converter.errors import SymbolError
from converter.graphs import reader
from converter.networks import catalog, wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.networks.catalog import Model
    from converter.networks.wiring import Wiring

    Symbol = dict[str, Any]

SMALL = (1, 1, 1, 1)
BLOCK = "features.5.1"  # has an identity shortcut


@pytest.fixture(scope="module")
def pooled() -> Model:
    """Return a small ResNet v1d, with average pools in its shortcuts."""
    model = catalog.find("gluon_resnet50_v1d")
    return replace(model, name="pooled", config=replace(model.config, depths=SMALL))


@pytest.fixture(scope="module")
def gated() -> Model:
    """Return a small SENet-154, with squeeze-excitation, a deep stem and a pool that rounds up."""
    model = catalog.find("gluon_senet154")
    return replace(model, name="gated", config=replace(model.config, depths=SMALL))


def match(content: Symbol, model: Model) -> Wiring:
    graph = reader.parse(json.dumps(content).encode(), file="net-symbol.json", name="net-symbol.json")
    return wiring.match(graph, model)


def refused_message(content: Symbol, model: Model) -> str:
    with pytest.raises(
        SymbolError, match=rf"^net-symbol\.json: the graph does not match {model.name}\n"
    ) as error:
        match(content, model)
    return str(error.value)


@pytest.mark.parametrize("name", catalog.models())
def test_graph_of_our_module_matches_the_definition(name: str) -> None:
    model = catalog.find(name)
    result = match(symbol(model), model)
    assert result.data == "data"
    assert result.nodes.keys() == {layer.source for layer in model.mapping.layers}
    assert result.variables == {tensor.source: tensor.source for tensor in model.mapping.tensors}
    assert result.fixed_gammas == ()
    assert not result.softmax


@pytest.mark.parametrize(
    ("name", "other", "reason"),
    [
        ("gluon_resnext50_32x4d", "gluon_resnext101_32x4d", "features.6.6"),
        ("gluon_resnext101_64x4d", "gluon_resnext101_32x4d", "groups 64 in the graph, 32 in the model"),
        ("gluon_resnet50_v1c", "gluon_resnet50_v1d", "expected  layer1.0.downsample.0: pooling of"),
        ("gluon_resnet50_v1c", "gluon_resnet50_v1s", "filters 32 in the graph, 64 in the model"),
        ("gluon_senet154", "gluon_senet154e", "downsample"),
    ],
)
def test_graph_of_another_model_is_refused(name: str, other: str, reason: str) -> None:
    assert reason in refused_message(symbol(catalog.find(name)), catalog.find(other))


def test_layers_are_matched_to_the_nodes_that_compute_them(tiny: Model) -> None:
    content = symbol(tiny)
    nodes = match(content, tiny).graph.nodes
    result = match(content, tiny).nodes
    assert nodes[result["features.5.1.body.4"]].name == "features.5.1.body.4"
    assert nodes[result["features.3"]].operator == "Pooling"
    assert nodes[result["features.4.0"]].operator == "Activation"  # the ReLU after the sum
    assert result["output"] == len(nodes) - 1


def test_description_of_many_inputs_is_short(tiny: Model) -> None:
    content = symbol(tiny)
    for number in range(5):
        last = len(content["nodes"]) - 1
        each = {"op": "add_n", "name": f"sum{number}", "attrs": {}, "inputs": [[last, 0, 0]] * 1000}
        content["nodes"].append(each)
    content["heads"] = [[len(content["nodes"]) - 1, 0, 0]]
    reason = refused_message(content, tiny)
    assert "found     MXNet's add_n of MXNet's add_n of MXNet's add_n of" in reason
    assert reason.count("add_n") < 4**4


@pytest.mark.parametrize("heads", [[], [[0, 0, 0], [0, 0, 0]]])
def test_graph_with_no_output_or_several_is_refused(heads: list[list[int]], tiny: Model) -> None:
    content = symbol(tiny)
    content["heads"] = [[len(content["nodes"]) - 1, *rest] for _, *rest in heads]
    reason = refused_message(content, tiny)
    assert "the graph does not match tiny" in reason


def test_parameter_from_another_output_of_a_variable_is_refused(tiny: Model) -> None:
    content = symbol(tiny)
    node(content, "features.1")["inputs"][1][1] = 1
    with pytest.raises(SymbolError, match=r"features\.1: output 1 of .* does not exist"):
        match(content, tiny)


def test_output_that_a_node_does_not_have_is_refused(tiny: Model) -> None:
    content = symbol(tiny)
    read_another_output(content)
    with pytest.raises(SymbolError, match=r"features\.3: output 1 of node 8, relu#8 does not exist"):
        match(content, tiny)


SHORTCUT = "layer2.0.downsample.0"  # a pool of the pooled model
SETTINGS = [  # None removes the attribute; "" as the line means that the model's value is kept
    ("features.1", "eps", "0.001", "eps 0.001 in the graph, 1e-05 in the model"),
    ("features.1", "eps", "1.00001e-05", "eps 1.00001e-05 in the graph, 1e-05 in the model"),
    ("features.1", "eps", None, "eps 0.001 in the graph, 1e-05 in the model"),
    ("features.1", "eps", "1.0000000000000001e-05", ""),
    ("features.5.1.body.4", "momentum", "0.99", ""),
    ("features.5.1.body.4", "momentum", None, ""),
    ("features.0", "kernel", "(7, 5)", "kernel (7, 5) in the graph, 7 in the model"),
    ("features.5.0.body.3", "stride", "(1, 1)", "stride 1 in the graph, 2 in the model"),
    ("features.0", "stride", None, "stride 1 in the graph, 2 in the model"),
    ("features.0", "stride", "()", "stride 1 in the graph, 2 in the model"),
    ("features.4.0.body.0", "stride", None, ""),
    ("features.0", "pad", "(2, 2)", "padding 2 in the graph, 3 in the model"),
    ("features.0", "pad", None, "padding 0 in the graph, 3 in the model"),
    ("features.4.0.body.0", "pad", None, ""),
    ("features.7.0.body.3", "dilate", "(2, 2)", "dilation 2 in the graph, 1 in the model"),
    ("features.7.0.body.3", "dilate", None, ""),
    ("features.7.0.body.3", "num_group", "1", "groups 1 in the graph, 2 in the model"),
    ("features.7.0.body.3", "num_group", None, "groups 1 in the graph, 2 in the model"),
    ("features.0", "num_group", None, ""),
    ("features.0", "num_filter", "63", "filters 63 in the graph, 64 in the model"),
    ("output", "num_hidden", "11", "outputs 11 in the graph, 10 in the model"),
    ("features.0", "layout", "NHWC", "layout NHWC in the graph, NCHW in the model"),
    ("features.0", "layout", "None", ""),
    ("features.1", "axis", "3", "axis 3 in the graph, 1 in the model"),
    ("features.3", "kernel", "(2, 2)", "kernel 2 in the graph, 3 in the model"),
    ("features.3", "stride", "(3, 3)", "stride 3 in the graph, 2 in the model"),
    ("features.3", "pad", "(0, 0)", "padding 0 in the graph, 1 in the model"),
    (SHORTCUT, "pad", None, ""),
    ("features.3", "pooling_convention", "full", "ceil_mode True in the graph, False in the model"),
    ("features.3", "pooling_convention", "same", "ceil_mode same in the graph, False in the model"),
    ("features.3", "pooling_convention", None, ""),
    (SHORTCUT, "pooling_convention", "valid", "ceil_mode False in the graph, True in the model"),
    (SHORTCUT, "pooling_convention", None, "ceil_mode False in the graph, True in the model"),
    (SHORTCUT, "count_include_pad", "True", "count_include_pad True in the graph, False in the model"),
    (SHORTCUT, "count_include_pad", None, "count_include_pad True in the graph, False in the model"),
    ("features.3", "count_include_pad", "False", ""),
    ("features.3", "pool_type", "avg", "pool avg in the graph, max in the model"),
    ("features.3", "pool_type", None, ""),
    ("features.8", "pool_type", "max", "pool max in the graph, avg in the model"),
    ("features.8", "pool_type", None, "pool max in the graph, avg in the model"),
    ("features.3", "global_pool", "True", "global True in the graph, False in the model"),
    ("features.3", "global_pool", None, ""),
    ("features.8", "global_pool", None, "global False in the graph, True in the model"),
    ("features.8", "kernel", "(7, 7)", ""),
    ("features.8", "layout", "NHWC", "layout NHWC in the graph, NCHW in the model"),
    *(("features.0", "kernel", text, "") for text in ("(7L, 7L)", "[7,7]", "[7, 7]", " ( 7 ,7 )")),
    ("features.0", "kernel", "(3L, 3L)", "kernel 3 in the graph, 7 in the model"),
    ("features.0", "kernel", "[3,3]", "kernel 3 in the graph, 7 in the model"),
]


@pytest.mark.parametrize(("layer", "attribute", "value", "line"), SETTINGS)
def test_different_setting_is_named_with_its_layer(
    layer: str, attribute: str, value: str | None, line: str, tiny: Model, pooled: Model
) -> None:
    model = pooled if layer == SHORTCUT else tiny
    content = changed(symbol(model), layer, **{attribute: value})
    if line:
        assert f"\n  {layer}: {line}" in refused_message(content, model)
    else:
        assert match(content, model).nodes


def test_equal_differences_share_a_line(tiny: Model) -> None:
    content = symbol(tiny)
    for each in content["nodes"]:
        if each["op"] == "BatchNorm":
            each["attrs"]["eps"] = "0.5"
    *lines, last = refused_message(content, tiny).split("\n")[1:]
    assert last.startswith("  try         convert GRAPH OUT --params FILE")
    assert "  features.5.{0…1}.body.{1,4,7}: eps 0.5 in the graph, 1e-05 in the model" in lines
    assert "  features.{4…7}.0.downsample.1: eps 0.5 in the graph, 1e-05 in the model" in lines
    assert len(lines) == 6


FIX_GAMMA = {None: True, "True": True, "true": True, "1": True, "False": False, "false": False, "0": False}


@pytest.mark.parametrize(("value", "fixed"), FIX_GAMMA.items())
def test_gammas_that_mxnet_fixes_at_one_are_listed(value: str | None, fixed: bool, tiny: Model) -> None:
    result = match(changed(symbol(tiny), "features.5.1.body.4", fix_gamma=value), tiny)
    assert result.fixed_gammas == (("features.5.1.body.4.gamma",) if fixed else ())


def change_in_place(change: Callable[[Symbol], None]) -> Callable[[Symbol], Symbol]:
    def apply(content: Symbol) -> Symbol:
        change(content)
        return content

    return apply


def first_input(content: Symbol, name: str) -> list[int]:
    """Return a node's first input."""
    entry: list[int] = node(content, name)["inputs"][0]
    return entry


def sum_of(content: Symbol, block: str) -> Symbol:
    """Return the sum that reads a block's last BatchNorm."""
    last = content["nodes"].index(node(content, f"{block}.body.7"))
    result: Symbol = next(
        each
        for each in content["nodes"]
        if each["op"] == "elemwise_add" and any(entry[0] == last for entry in each["inputs"])
    )
    return result


def lose_shortcut(content: Symbol) -> None:
    body = content["nodes"].index(node(content, f"{BLOCK}.body.7"))
    sum_of(content, BLOCK)["inputs"] = [[body, 0, 0]] * 2


def bypass_relu(content: Symbol) -> None:
    norm = content["nodes"].index(node(content, f"{BLOCK}.body.1"))
    node(content, f"{BLOCK}.body.3")["inputs"][0] = [norm, 0, 0]


def swap_relu_and_sum(content: Symbol) -> None:
    total = sum_of(content, BLOCK)
    place = content["nodes"].index(total)
    relu = content["nodes"][place + 1]
    assert relu["op"] == "Activation"
    first, second = total["inputs"]
    content["nodes"][place] = {**relu, "inputs": [first]}
    content["nodes"][place + 1] = {**total, "inputs": [[place, 0, 0], second]}


def exchange_weights(content: Symbol) -> None:
    one, other = node(content, "features.5.0.body.6.weight"), node(content, f"{BLOCK}.body.6.weight")
    one["name"], other["name"] = other["name"], one["name"]


def exchange_gamma_and_beta(content: Symbol) -> None:
    inputs = node(content, "features.1")["inputs"]
    inputs[1], inputs[2] = inputs[2], inputs[1]


def read_another_output(content: Symbol) -> None:
    node(content, "features.3")["inputs"] = [[*first_input(content, "features.3")[:1], 1, 0]]


def return_two_outputs(content: Symbol) -> None:
    content["heads"] = content["heads"] * 2


def return_features(content: Symbol) -> None:
    content["heads"] = [first_input(content, "output")]


def skip_a_block(content: Symbol) -> None:
    """Connect the next stage to the block before the last; MXNet drops unused nodes."""
    before = content["nodes"].index(node(content, "features.5.0.body.7")) + 10
    while content["nodes"][before]["op"] != "Activation":
        before += 1
    for name in ("features.6.0.body.0", "features.6.0.downsample.0"):
        node(content, name)["inputs"][0] = [before, 0, 0]


WIRING = {
    "lost shortcut": (lose_shortcut, "expected  sum of features.5.0 and features.5.1.body.7"),
    "bypassed ReLU": (
        bypass_relu,
        "features.5.1.body.3: convolution features.5.1.body.3 of features.5.1.body.1",
    ),
    "a ReLU before the sum": (swap_relu_and_sum, "expected  sum of features.5.0 and features.5.1.body.7"),
    "swapped weights": (
        exchange_weights,
        "found     features.5.1.body.6: convolution features.5.0.body.6 of",
    ),
    "swapped gamma and beta": (exchange_gamma_and_beta, "expected  BatchNorm features.1 of features.0"),
    "two outputs": (return_two_outputs, "found     a group of output and output"),
    "no head": (
        return_features,
        "expected  dense output of features.8\n  found     flatten: flatten of features.8",
    ),
    "skipped block": (skip_a_block, "expected  convolution features.5.1.body.3"),
}


@pytest.mark.parametrize(("change", "line"), WIRING.values(), ids=WIRING)
def test_different_wiring_is_refused_at_the_first_difference(
    change: Callable[[Symbol], None], line: str, tiny: Model
) -> None:
    content = symbol(tiny)
    change(content)
    assert line in refused_message(content, tiny)


INSERTED = [
    ("Activation", {"act_type": "tanh"}, "tanh of"),
    ("_npx_activation", {"act_type": "softrelu"}, "softplus of"),
    ("LeakyReLU", {"act_type": "leaky", "slope": "0.1"}, "MXNet's LeakyReLU of"),
    ("softmax", {}, "softmax of"),
    ("sigmoid", {}, "sigmoid of"),
    ("relu", {}, "ReLU of"),
    ("mean", {"axis": "1"}, "mean of"),
    ("_contrib_AdaptiveAvgPooling2D", {"output_size": "(2, 2)"}, "adaptive average pooling of"),
    ("Dropout", {"p": "0.5", "mode": "always"}, "dropout of"),
    ("Flatten", {}, "flatten of"),
    ("SwapAxis", {}, "MXNet's SwapAxis of"),
    ("", {}, "MXNet's  of"),
]


@pytest.mark.parametrize(("op", "attrs", "line"), INSERTED)
def test_operator_missing_in_the_model_is_named(
    op: str, attrs: dict[str, str], line: str, tiny: Model
) -> None:
    text = refused_message(inserted(symbol(tiny), "features.0", op, attrs), tiny)
    assert "expected  BatchNorm features.1 of features.0" in text
    assert f"found     features.1: BatchNorm features.1 of {line} features.0" in text


NEUTRAL = [
    ("identity", {}),
    ("_copy", {}),
    ("_np_copy", {}),
    ("_npi_copy", {}),
    ("Dropout", {"p": "0.5"}),
    ("Dropout", {"p": "0", "mode": "always"}),
    ("_npx_dropout", {"p": "0.5", "axes": "()", "mode": "training", "cudnn_off": "False"}),
]


@pytest.mark.parametrize(("op", "attrs"), NEUTRAL)
@pytest.mark.parametrize("place", ["features.0", "features.4.0.body.7", "output"])
def test_operators_without_effect_at_inference_are_skipped(
    op: str, attrs: dict[str, str], place: str, tiny: Model
) -> None:
    plain, result = match(symbol(tiny), tiny), match(inserted(symbol(tiny), place, op, attrs), tiny)
    names = [[each.graph.nodes[index].name for index in each.nodes.values()] for each in (plain, result)]
    assert names[0] == names[1]


@pytest.mark.parametrize("op", ["Flatten", "flatten"])
def test_flatten_before_the_head_is_skipped(op: str, tiny: Model) -> None:
    assert match(inserted(symbol(tiny), "features.8", op), tiny).nodes


def test_head_without_flattening_needs_a_flatten(tiny: Model) -> None:
    content = changed(symbol(tiny), "output", flatten="False")
    assert match(content, tiny).nodes  # torch's own flatten is in the graph
    head = node(content, "output")
    head["inputs"][0] = node(content, "flatten")["inputs"][0]
    assert "found     output: dense without flattening output of features.8" in refused_message(content, tiny)
    head["attrs"]["flatten"] = "True"
    assert match(content, tiny).nodes


SOFTMAX = [
    ("softmax", {}, True),
    ("softmax", {"axis": "1"}, True),
    ("_npx_softmax", {"axis": "-1", "temperature": "None", "use_length": "False", "dtype": "None"}, True),
    ("softmax", {"axis": "0"}, False),
    ("softmax", {"temperature": "2.0"}, False),
    ("sigmoid", {}, False),
    ("log_softmax", {}, False),
]


@pytest.mark.parametrize(("op", "attrs", "accepted"), SOFTMAX)
def test_plain_softmax_at_the_end_is_skipped(
    op: str, attrs: dict[str, str], accepted: bool, tiny: Model
) -> None:
    content = inserted(symbol(tiny), "output", op, attrs)
    if accepted:
        result = match(content, tiny)
        assert result.softmax
        assert result.graph.nodes[result.nodes["output"]].name == "output"
    else:
        assert "expected  the graph to end in output\n  found     " in refused_message(content, tiny)


@pytest.mark.parametrize("op", ["SoftmaxOutput", "Softmax"])
def test_training_head_with_its_label_is_skipped(op: str, tiny: Model) -> None:
    content = inserted(symbol(tiny), "output", op, {"grad_scale": "1", "normalization": "batch"})
    content["nodes"].insert(0, {"op": "null", "name": "softmax_label", "inputs": []})
    for each in content["nodes"]:
        each["inputs"] = [[entry[0] + 1, *entry[1:]] for entry in each["inputs"]]
    content["heads"] = [[entry[0] + 1, *entry[1:]] for entry in content["heads"]]
    node(content, "inserted")["inputs"].append([0, 0, 0])
    result = match(content, tiny)
    assert result.softmax
    assert result.data == "data"


def test_operands_of_a_sum_may_be_swapped(tiny: Model) -> None:
    content = symbol(tiny)
    sum_of(content, BLOCK)["inputs"].reverse()
    assert match(content, tiny).nodes


def test_squeeze_excitation_is_compared(gated: Model) -> None:
    assert match(symbol(gated), gated).nodes
    content = symbol(gated)
    gates = [
        each
        for each in content["nodes"]
        if each["op"] == "Activation" and each["attrs"]["act_type"] == "sigmoid"
    ]
    gates[0]["attrs"]["act_type"] = "relu"
    assert "expected  sigmoid of features.10.0.se.2" in refused_message(content, gated)
    content = symbol(gated)
    product = next(each for each in content["nodes"] if each["op"] == "broadcast_mul")
    product["inputs"] = [product["inputs"][0]] * 2
    assert "expected  pooling of features.10.0.body.7\n  found     mul: product of" in refused_message(
        content, gated
    )


def test_operation_computed_twice_must_have_equal_settings(tiny: Model) -> None:
    content = symbol(tiny)
    place = content["nodes"].index(node(content, "features.8"))
    twin = {**content["nodes"][place], "name": "twin", "attrs": dict(content["nodes"][place]["attrs"])}
    for each in content["nodes"]:
        each["inputs"] = [[entry[0] + (entry[0] > place), *entry[1:]] for entry in each["inputs"]]
    content["heads"] = [[entry[0] + 1, *entry[1:]] for entry in content["heads"]]
    content["nodes"].insert(place + 1, twin)
    node(content, "flatten")["inputs"] = [[place + 1, 0, 0]]
    assert match(content, tiny).nodes
    twin["attrs"]["pool_type"] = "max"
    assert "features.8: pool max in the graph, avg in the model" in refused_message(content, tiny)


def test_unused_operators_are_ignored(tiny: Model) -> None:
    content = symbol(tiny)
    content["nodes"].append({"op": "tanh", "name": "unused", "inputs": [[0, 0, 0]]})
    assert match(content, tiny).nodes


def test_second_input_variable_differs_from_the_first(tiny: Model) -> None:
    content = symbol(tiny)
    content["nodes"].append({"op": "null", "name": "data2", "inputs": []})
    variable = [len(content["nodes"]) - 1, 0, 0]
    content["nodes"] = [content["nodes"][-1], *content["nodes"][:-1]]
    for each in content["nodes"]:
        each["inputs"] = [[entry[0] + 1, *entry[1:]] for entry in each["inputs"]]
    content["heads"] = [[entry[0] + 1, *entry[1:]] for entry in content["heads"]]
    assert variable
    sum_of(content, BLOCK)["inputs"][0] = [0, 0, 0]
    assert "variable" in refused_message(content, tiny)
