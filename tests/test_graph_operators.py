"""All names that MXNet versions have for an operator mean the same operation."""

from __future__ import annotations

import re

import numpy as np
import operator_cases
import pytest
import torch

from converter.graphs import operators
from converter.graphs.helpers import arithmetic
from converter.graphs.operators import registry

CONVOLUTION = {"kernel": "(3, 3)", "num_filter": "8", "pad": "(1, 1)", "stride": "(2, 2)", "num_group": "2"}
POOLING = {"kernel": "(3, 3)", "stride": "(2, 2)", "pool_type": "avg", "pooling_convention": "full"}
ALIASES = [  # the names of one operator, its attributes, and the operation's kind
    (["Convolution", "Convolution_v1", "_npx_convolution"], CONVOLUTION, "convolution"),
    (["FullyConnected", "_npx_fully_connected"], {"num_hidden": "10"}, "dense"),
    (["BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_npx_batch_norm"], {"eps": "2e-05"}, "BatchNorm"),
    (["Pooling", "Pooling_v1", "_npx_pooling"], POOLING, "pooling"),
    (["Pooling", "Pooling_v1"], {"global_pool": "True", "pool_type": "avg"}, "pooling"),
    (["Activation", "_npx_activation"], {"act_type": "relu"}, "ReLU"),
    (["Activation", "_npx_activation"], {"act_type": "sigmoid"}, "sigmoid"),
    (["Activation", "_npx_activation"], {"act_type": "tanh"}, "tanh"),
    (["Activation", "_npx_activation"], {"act_type": "softrelu"}, "softplus"),
    (["Activation", "_npx_activation"], {"act_type": "softsign"}, "softsign"),
    (["relu", "_npx_relu"], {}, "ReLU"),
    (["sigmoid", "_npx_sigmoid"], {}, "sigmoid"),
    (["elemwise_add", "broadcast_add", "broadcast_plus", "_Plus", "_plus", "_add", "_npi_add"], {}, "sum"),
    (["broadcast_mul", "_npi_multiply"], {}, "product"),
    (["mean", "_npi_mean"], {"axis": "(2, 3)", "keepdims": "True"}, "pooling"),
    (["mean", "_npi_mean"], {"axis": "[-2,-1]", "keepdims": "1"}, "pooling"),
    (["softmax", "_npx_softmax"], {"axis": "-1"}, "softmax"),
    (["SoftmaxOutput", "Softmax"], {"multi_output": "True"}, "softmax"),
    (["Flatten", "flatten"], {}, "flatten"),
    (["identity", "_copy", "_np_copy", "_npi_copy"], {}, "identity"),
    (["Cast", "cast", "amp_cast"], {"dtype": "float16"}, "cast"),
    (["Cast", "cast", "amp_cast"], {"dtype": "int32"}, "MXNet's Cast"),
    (["amp_multicast"], {"num_outputs": "2"}, "cast"),
    (["Dropout", "_npx_dropout"], {"p": "0.2"}, "identity"),
    (["Dropout", "_npx_dropout"], {"p": "0.2", "mode": "always"}, "dropout"),
]


@pytest.mark.parametrize(("names", "attributes", "kind"), ALIASES)
def test_names_of_an_operator_mean_one_operation(
    names: list[str], attributes: dict[str, str], kind: str
) -> None:
    first, *others = (operators.parse(name, attributes) for name in names)
    assert first.kind == kind
    assert all(other == first for other in others)


OTHER_NAMES = [  # of operators that the named networks do not have
    ["BlockGrad", "stop_gradient"],
    ["Concat", "concat"],
    ["ElementWiseSum", "add_n"],
    ["LayerNorm", "_npx_layer_norm"],
    ["LeakyReLU", "_npx_leaky_relu"],
    ["Pad", "pad"],
    ["Reshape", "reshape"],
    ["SliceChannel", "split"],
    ["SwapAxis", "swapaxes"],
    ["crop", "slice"],
    ["flip", "reverse"],
    ["log_softmax", "_npx_log_softmax"],
    ["max", "max_axis"],
    ["min", "min_axis"],
    ["sum", "sum_axis"],
    ["elemwise_sub", "broadcast_sub", "broadcast_minus", "_sub", "_minus", "_Minus", "_npi_subtract"],
    ["elemwise_mul", "_mul", "_Mul"],
    ["elemwise_div", "broadcast_div", "_div", "_Div"],
    ["_power", "_Power", "_npi_power", "broadcast_power"],
    ["_maximum", "_Maximum", "broadcast_maximum"],
    ["_minimum", "_Minimum", "broadcast_minimum"],
    ["_mod", "_Mod", "broadcast_mod"],
    ["_hypot", "broadcast_hypot"],
    *(
        [f"_{name}_scalar", f"_{name.title()}Scalar"]
        for name in ("plus", "minus", "mul", "div", "power", "mod")
    ),
    *([f"_{name}_scalar", f"_{name.title()}Scalar"] for name in ("maximum", "minimum", "hypot")),
    *([f"_r{name}_scalar", f"_R{name.title()}Scalar"] for name in ("minus", "div", "power", "mod")),
    *(
        [f"_{name}", f"broadcast_{name}", f"_{name.title()}"]
        for name in (*operator_cases.COMPARED, "logical_and", "logical_or", "logical_xor")
    ),
    *(
        [f"_{name}_scalar", f"_{name.title().replace('_', '')}Scalar"]
        for name in (*operator_cases.COMPARED, "logical_and", "logical_or", "logical_xor")
    ),
    ["MultiBoxDetection", "_contrib_MultiBoxDetection"],
    ["MultiBoxPrior", "_contrib_MultiBoxPrior"],
    ["_contrib_box_nms", "_contrib_box_non_maximum_suppression"],
    ["_np_cumsum", "cumsum"],
    ["broadcast_axes", "broadcast_axis"],
    ["choose_element_0index", "pick"],
]


@pytest.mark.parametrize("names", OTHER_NAMES, ids=lambda names: names[0])
def test_names_of_an_operator_share_a_schema(names: list[str]) -> None:
    first, *others = (registry.schema(name) for name in names)
    assert first is not None
    assert all(other is first for other in others)


UNTRIED = {  # other names of what is tried, and operators that inference does not compute
    *("_contrib_SyncBatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "Pooling_v1", "_npi_mean"),
    *("_contrib_MultiBoxTarget", "MultiBoxTarget"),
    *("Cast", "cast", "amp_cast", "amp_multicast"),  # bypassed: MXNet rounds, the converted network does not
}


def test_every_name_is_tested() -> None:
    tested = {name for names, _, _ in ALIASES for name in names} | {
        name for each in OTHER_NAMES for name in each
    }
    tested |= {case.operator for case in operator_cases.CASES}
    assert operators.schemas().keys() - tested <= UNTRIED


def test_every_known_operator_is_tried_or_an_alias() -> None:
    tried = {registry.schema(case.operator) for case in operator_cases.CASES}
    untried = {name for name in operators.schemas() if registry.schema(name) not in tried}
    assert untried == UNTRIED


def test_activation_needs_a_known_function() -> None:
    for unknown in ("identity", "softmax", "ReLU", "input"):
        with pytest.raises(ValueError, match=f"act_type has the unknown value '{unknown}'"):
            operators.parse("Activation", {"act_type": unknown})


@pytest.mark.parametrize("name", ["input", "product", "dense", "variable", "softmax_cross_entropy"])
def test_unsupported_operator_gets_a_prefixed_kind(name: str) -> None:
    operation = operators.parse(name, {"axis": "7"})
    assert (operation.kind, operation.data_inputs) == (f"MXNet's {name}", None)
    assert operation.code is None


def test_kind_of_an_operator_outside_the_named_networks_is_prefixed() -> None:
    operation = operators.parse("sum", {"axis": "7"})
    assert (operation.kind, operation.data_inputs) == ("MXNet's sum", 1)
    assert operation.settings == {"axis": (7,), "keepdims": False, "exclude": False}


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("BatchNorm_v1", "axis"),
        ("CuDNNBatchNorm", "axis"),
        ("Pooling_v1", "count_include_pad"),
        ("Pooling_v1", "layout"),
        ("_npi_mean", "exclude"),
    ],
)
def test_older_operators_lack_newer_attributes(name: str, attribute: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no attribute '{attribute}'"):
        operators.parse(name, {attribute: "1"})


@pytest.mark.parametrize("key", ["kernel", "stride", "pad", "dilate"])
@pytest.mark.parametrize("text", ["3", "(3,)", "[3]", "(3, 3, 3)"])
def test_convolution_parameters_need_two_numbers(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} has the invalid value {re.escape(repr(text))}$"):
        operators.parse("Convolution", CONVOLUTION | {key: text})
    assert operators.parse("Convolution", CONVOLUTION | {key: "(3, 3)"}).kind == "convolution"


@pytest.mark.parametrize("attributes", [{"dtype": "float64"}, {"initial": "1.0"}])
def test_npi_mean_with_another_dtype_is_not_a_global_average(attributes: dict[str, str]) -> None:
    axes = {"axis": "(2, 3)", "keepdims": "True"}
    assert operators.parse("_npi_mean", axes).kind == "pooling"
    assert operators.parse("_npi_mean", axes | attributes).kind == "mean"


def test_momentum_does_not_change_the_operation() -> None:
    assert operators.parse("BatchNorm", {"momentum": "0.99"}) == operators.parse("BatchNorm", {})


def test_sync_batch_norm_is_a_batch_norm() -> None:
    operation = operators.parse(
        "_contrib_SyncBatchNorm", {"key": "bn0", "ndev": "2", "eps": "1e-05", "fix_gamma": "0"}
    )
    assert operation == operators.parse("BatchNorm", {"eps": "1e-05", "fix_gamma": "False"})
    assert operation != operators.parse("BatchNorm", {"eps": "1e-05"})


def test_defaults_are_mxnets() -> None:
    assert operators.parse("Convolution", {"kernel": "(3, 3)", "num_filter": "8"}).settings == {
        "kernel": 3,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "filters": 8,
        "layout": "NCHW",
    }
    assert operators.parse("Convolution", {"kernel": "(3, 3)", "num_filter": "8"}).roles == ("weight", "bias")
    norm = operators.parse("BatchNorm", {})
    assert norm.settings == {"eps": 0.0010000000474974513, "axis": 1}
    assert norm.fix_gamma
    for name in ("Pooling", "Pooling_v1"):
        assert operators.parse(name, {"pool_type": "avg", "kernel": "(3, 3)"}).settings == {
            "global": False,
            "pool": "avg",
            "layout": "NCHW",
            "kernel": 3,
            "stride": 1,
            "padding": 0,
            "ceil_mode": False,
            "count_include_pad": True,
        }
    assert operators.parse("FullyConnected", {"num_hidden": "2"}).settings == {"outputs": 2, "flatten": True}


@pytest.mark.parametrize(
    "attributes", [{}, {"output_size": "1"}, {"output_size": "(1, 1)"}, {"output_size": "()"}]
)
def test_adaptive_pooling_to_one_is_the_global_average(attributes: dict[str, str]) -> None:
    expected = operators.parse("Pooling", {"global_pool": "True", "pool_type": "avg"})
    assert operators.parse("_contrib_AdaptiveAvgPooling2D", attributes) == expected
    assert operators.parse("_contrib_AdaptiveAvgPooling2D", {"output_size": "(1, 2)"}) != expected


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"axis": "(2, 3)"},
        {"axis": "1", "keepdims": "True"},
        {"axis": "(2, 3)", "keepdims": "1", "exclude": "1"},
    ],
)
def test_mean_over_other_axes_is_not_the_global_average(attributes: dict[str, str]) -> None:
    assert operators.parse("mean", attributes).kind == "mean"


@pytest.mark.parametrize(
    ("name", "attributes", "message"),
    [
        ("smooth_l1", {"scalar": "0"}, "scalar has the invalid value 0"),
        ("smooth_l1", {"scalar": "1e200"}, "scalar has the invalid value"),
        ("smooth_l1", {"scalar": "-1e-200"}, "scalar has the invalid value"),
        ("clip", {"a_min": "0", "a_max": "1e200"}, "a_max has the invalid value '1e200'"),
        ("expand_dims", {"axis": "9223372036854775808"}, "axis has the invalid value"),
        (
            "slice_axis",
            {"axis": "1000000", "begin": "0", "end": "None"},
            "1000000 is not an axis",
        ),
        ("slice_axis", {"axis": "-1000000", "begin": "0", "end": "None"}, "is not an axis"),
        ("slice_like", {"axes": "(2, 1000000)"}, "1000000 is not an axis"),
    ],
)
def test_numbers_that_no_code_can_have_are_refused(
    name: str, attributes: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        operators.parse(name, attributes)


HUGE = "1000000000000"


@pytest.mark.parametrize(
    ("name", "attributes", "attribute"),
    [
        ("tile", {"reps": "(1000000, 1000000)"}, "reps"),
        ("repeat", {"repeats": HUGE}, "repeats"),
        ("broadcast_to", {"shape": "(1000000, 0, 1000000)"}, "shape"),
        ("Reshape", {"shape": "(1000000, -1, 1000000)"}, "shape"),
        ("Pad", {"mode": "constant", "pad_width": f"(0, 0, 0, 0, 1, {HUGE}, 1, 1)"}, "pad_width"),
        ("UpSampling", {"scale": "1000000000", "sample_type": "nearest", "num_args": "1"}, "scale"),
        ("_contrib_BilinearResize2D", {"height": "1000000000", "width": "1"}, "height"),
        ("_contrib_AdaptiveAvgPooling2D", {"output_size": "(1000000, 1000)"}, "output_size"),
        ("Convolution", CONVOLUTION | {"num_filter": HUGE}, "num_filter"),
        ("Convolution", CONVOLUTION | {"kernel": "(100000, 100000)"}, "kernel"),
        ("Convolution", CONVOLUTION | {"pad": "(-100000, 100000)"}, "pad"),
        ("FullyConnected", {"num_hidden": HUGE}, "num_hidden"),
        ("Embedding", {"input_dim": HUGE, "output_dim": "1"}, "input_dim"),
        ("SliceChannel", {"num_outputs": HUGE}, "num_outputs"),
    ],
)
def test_attributes_that_ask_for_too_many_elements_are_refused(
    name: str, attributes: dict[str, str], attribute: str
) -> None:
    with pytest.raises(ValueError, match=f"^{attribute} is too large: .* at most 268,435,456 elements"):
        operators.parse(name, attributes)


def test_ends_of_slices_can_have_any_value() -> None:
    end = "9223372036854775807"
    assert operators.parse("slice_axis", {"axis": "1", "begin": "0", "end": end}).code is not None
    assert operators.parse("slice", {"begin": "(0,)", "end": f"({end},)"}).code is not None


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        (
            "rint",
            [8388609, 16777215, 0.49999997, -0.49999997, 0.5, 1.5, -0.5],
            [8388609, 16777215, 0, 0, 0, 1, -1],
        ),
        ("round", [8388609, 16777215, 0.49999997, -0.49999997, 0.5, -2.5], [8388609, 16777215, 0, 0, 1, -3]),
    ],
)
def test_rounding_is_exact_in_float32(operator: str, values: list[float], expected: list[float]) -> None:
    """As measured with MXNet 1.9.1."""
    operation = operators.parse(operator, {})
    assert operation.code
    assert operation.compute
    array = np.array(values, np.float32)
    x = torch.from_numpy(array)
    result = eval(operation.code.expression.format("x"), {"torch": torch, "x": x})  # noqa: S307 - ours
    assert result.tolist() == expected
    assert operation.compute(array).tolist() == expected


@pytest.mark.parametrize(
    "name",
    ["BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm", "LayerNorm", "GroupNorm"],
)
def test_normalization_with_its_statistics_as_outputs_is_refused(name: str) -> None:
    key = {"key": "bn"} if name == "_contrib_SyncBatchNorm" else {}
    operation = operators.parse(name, key | {"output_mean_var": "True"})
    assert operation.refused == "output_mean_var is not supported"
    assert operators.parse(name, key | {"output_mean_var": "False"}).refused == ""


@pytest.mark.parametrize("name", ["_zeros", "_ones", "_full"])
def test_constant_whose_shape_is_to_be_inferred_is_refused(name: str) -> None:
    value = {"value": "2"} if name == "_full" else {}
    operation = operators.parse(name, {"shape": "(0, 4)", **value})
    assert (operation.code, operation.refused) == (None, "a part of shape is left to be inferred")


def test_remainder_of_a_division_by_0_is_0() -> None:
    """As measured with MXNet 1.9.1; 0.7 is a number that float32 does not hold."""
    x, y = (
        torch.tensor([5.0, -5.0, 1.0], dtype=torch.float64),
        torch.tensor([0.0, 3.0, 0.7], dtype=torch.float64),
    )
    assert arithmetic.remainder(x, y).tolist() == [0.0, 1.0, 1.0 % 0.7]
    assert arithmetic.remainder(2.0, torch.tensor([0.0, 3.0])).tolist() == [0.0, 2.0]
    assert arithmetic.remainder(x, 0.7).tolist() == [each % 0.7 for each in x.tolist()]
    assert arithmetic.remainder(torch.tensor([7, 8]), 0).tolist() == [0, 0]
    operation = operators.parse("broadcast_mod", {})
    assert operation.compute
    assert operation.compute(x.numpy(), y.numpy()).tolist() == [0.0, 1.0, 1.0 % 0.7]
