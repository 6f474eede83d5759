"""Outputs with a loss, which pass their data on at inference, and operators for training only.

Source: src/operator/{regression_output,svm_output,make_loss}-inl.h, src/operator/contrib/
multibox_target-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from converter.graphs.graph import Operation
from converter.graphs.operators.activation import sigmoid
from converter.graphs.operators.attributes import Single
from converter.graphs.operators.code import Code, identity
from converter.graphs.operators.registry import MXNET, operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

ONE, ZERO = Single(1.0), Single(0.0)
TARGET_OUTPUTS = 3  # location targets, their mask, class targets


def _labelled(name: str, code: Code) -> Operation:
    operation = other(name, code, lambda x, _label=None: x, data_inputs=2, keeps_rank=True)
    return replace(operation, takes_label=True)


# The kinds of operators whose label has the shape of their data.
REGRESSIONS = {
    MXNET + name for name in ("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")
}


@operator("LinearRegressionOutput")
def _linear_regression_output(*, grad_scale: Single = ONE) -> Operation:
    return _labelled("LinearRegressionOutput", Code("{0}"))


@operator("MAERegressionOutput")
def _absolute_regression_output(*, grad_scale: Single = ONE) -> Operation:
    return _labelled("MAERegressionOutput", Code("{0}"))


@operator("SVMOutput")
def _svm_output(
    *, margin: Single = ONE, regularization_coefficient: Single = ONE, use_linear: bool = False
) -> Operation:
    return _labelled("SVMOutput", Code("{0}"))


@operator("LogisticRegressionOutput")
def _logistic_regression_output(*, grad_scale: Single = ONE) -> Operation:
    def compute(x: Array, _label: Array | None = None) -> Array:
        return sigmoid(x)

    code = Code("torch.sigmoid({0})")
    operation = other("LogisticRegressionOutput", code, compute, data_inputs=2, keeps_rank=True)
    return replace(operation, takes_label=True)


@operator("MakeLoss")
def _make_loss(
    *, grad_scale: Single = ONE, valid_thresh: Single = ZERO, normalization: str = "null"
) -> Operation:
    return other("MakeLoss", Code("{0}"), identity, keeps_rank=True)


@operator("make_loss")
def _make_loss_plainly() -> Operation:
    return other("make_loss", Code("{0}"), identity, keeps_rank=True)


@operator("_contrib_MultiBoxTarget", "MultiBoxTarget")
def _multibox_target(
    *,
    overlap_threshold: Single = Single(0.5),  # noqa: B008 - a number
    ignore_label: Single = Single(-1.0),  # noqa: B008 - a number
    negative_mining_ratio: Single = Single(-1.0),  # noqa: B008 - a number
    negative_mining_thresh: Single = Single(0.5),  # noqa: B008 - a number
    minimum_negative_samples: int = 0,
    variances: str = "",
) -> Operation:
    operation = refuse("_contrib_MultiBoxTarget", "computes targets for training", data_inputs=3)
    return replace(operation, outputs=TARGET_OUTPUTS, is_loss=True)
