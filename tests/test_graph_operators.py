"""Every name that an MXNet version has for an operator means the same operation."""

from __future__ import annotations

import pytest

from converter.graphs import operators

CONVOLUTION = {"kernel": "(3, 3)", "num_filter": "8", "pad": "(1, 1)", "stride": "(2, 2)", "num_group": "2"}
POOLING = {"kernel": "(3, 3)", "stride": "(2, 2)", "pool_type": "avg", "pooling_convention": "full"}
ALIASES = [  # the names of one operator, attributes, and the kind of the operation
    (["Convolution", "Convolution_v1", "_npx_convolution"], CONVOLUTION, "convolution"),
    (["FullyConnected", "_npx_fully_connected"], {"num_hidden": "10"}, "dense"),
    (["BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_npx_batch_norm"], {"eps": "2e-05"}, "BatchNorm"),
    (["Pooling", "Pooling_v1", "_npx_pooling"], POOLING, "pooling"),
    (["Activation", "_npx_activation"], {"act_type": "relu"}, "ReLU"),
    (["Activation", "_npx_activation"], {"act_type": "sigmoid"}, "sigmoid"),
    (["Activation", "_npx_activation"], {"act_type": "tanh"}, "tanh"),
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
    (["Dropout", "_npx_dropout"], {"p": "0.2"}, "identity"),
    (["Dropout", "_npx_dropout"], {"p": "0.2", "mode": "always"}, "dropout"),
]


@pytest.mark.parametrize(("names", "attributes", "kind"), ALIASES)
def test_the_names_of_an_operator_mean_one_operation(
    names: list[str], attributes: dict[str, str], kind: str
) -> None:
    first, *others = (operators.parse(name, attributes) for name in names)
    assert first.kind == kind
    assert all(other == first for other in others)


def test_every_registered_name_is_tested() -> None:
    tested = {name for names, _, _ in ALIASES for name in names}
    assert tested | {"_contrib_SyncBatchNorm", "_contrib_AdaptiveAvgPooling2D"} == operators._SCHEMAS.keys()


def test_synchronised_batch_norm_is_a_batch_norm() -> None:
    found = operators.parse(
        "_contrib_SyncBatchNorm", {"key": "bn0", "ndev": "2", "eps": "1e-05", "fix_gamma": "0"}
    )
    assert found == operators.parse("BatchNorm", {"eps": "1e-05", "fix_gamma": "False"})
    assert found != operators.parse("BatchNorm", {"eps": "1e-05"})


def test_defaults_are_mxnets() -> None:
    assert operators.parse("Convolution", {"kernel": "3", "num_filter": "8"}).settings == {
        "kernel": 3,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "filters": 8,
        "layout": "NCHW",
    }
    assert operators.parse("Convolution", {"kernel": "3", "num_filter": "8"}).roles == ("weight", "bias")
    norm = operators.parse("BatchNorm", {})
    assert norm.settings == {"eps": 0.0010000000474974513, "momentum": 0.9, "axis": 1}
    assert norm.fix_gamma
    assert operators.parse("Pooling", {"pool_type": "avg"}).settings["count_include_pad"] is True
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
def test_another_mean_is_not_the_global_average(attributes: dict[str, str]) -> None:
    assert operators.parse("mean", attributes).kind == "mean"
