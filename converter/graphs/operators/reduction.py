"""Sums, means, extremes and matrix products.

Source: src/operator/tensor/{broadcast_reduce_op,dot}-inl.h, src/operator/numpy/
np_broadcast_reduce_op.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes
from converter.graphs.operators.code import Code
from converter.graphs.operators.pooling import GLOBAL_AVERAGE
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.graphs.graph import Settings

NO_AXES = "the reduction of all axes is not supported"
FORWARD_TYPES = {"", "default"}


@operator("mean")
def _mean(*, axis: Axes = (), keepdims: bool = False, exclude: bool = False) -> Operation:
    if keepdims and not exclude and axis in {(2, 3), (-2, -1)}:
        return GLOBAL_AVERAGE
    settings: Settings = {"axis": axis, "keepdims": keepdims, "exclude": exclude}
    refused = "exclude is not supported" if exclude else ""
    return Operation(
        kind="mean",
        settings=settings,
        code=None if refused else Code(_reduced("mean", axis, keepdims=keepdims)),
        compute=_reduction(np.mean, axis, keepdims=keepdims),
        refused=refused,
        keeps_rank=keepdims,
    )


@operator("_npi_mean")
def _numpy_mean(*, axis: Axes = (), keepdims: bool = False, dtype: str = "", initial: str = "") -> Operation:
    if dtype or initial:
        settings: Settings = {"axis": axis, "dtype": dtype, "initial": initial}
        return Operation(kind="mean", settings=settings, refused="dtype and initial are not supported")
    return _mean(axis=axis, keepdims=keepdims)


def _reduce(name: str, method: str, function: Callable[..., Array]) -> Callable[..., Operation]:
    def schema(*, axis: Axes = (), keepdims: bool = False, exclude: bool = False) -> Operation:
        if exclude:
            return refuse(name, "exclude is not supported", data_inputs=1)
        code = Code(_reduced(method, axis, keepdims=keepdims))
        return other(name, code, _reduction(function, axis, keepdims=keepdims), keeps_rank=keepdims)

    return schema


def _reduced(method: str, axis: Axes, *, keepdims: bool) -> str:
    """Return a reduction as PyTorch code; without axes, MXNet's result has one axis."""
    keep = ", keepdim=True" if keepdims else ""
    if axis:
        return f"{{0}}.{method}({axis[0] if len(axis) == 1 else axis}{keep})"
    return f"{{0}}.{method}(tuple(range({{0}}.dim())){keep})" if keepdims else f"{{0}}.{method}().reshape(1)"


def _reduction(function: Callable[..., Array], axis: Axes, *, keepdims: bool) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        y = function(x, axis=axis or None, keepdims=keepdims)
        return np.reshape(y, (1,)) if np.ndim(y) == 0 else y

    return compute


operator("sum", "sum_axis")(_reduce("sum", "sum", np.sum))
operator("max", "max_axis")(_reduce("max", "amax", np.max))
operator("min", "min_axis")(_reduce("min", "amin", np.min))


@operator("dot")
def _dot(*, transpose_a: bool = False, transpose_b: bool = False, forward_stype: str = "") -> Operation:
    if transpose_a or transpose_b or forward_stype not in FORWARD_TYPES:
        return refuse("dot", "transpose_a, transpose_b and forward_stype are not supported", data_inputs=2)
    code = Code("torch.tensordot({0}, {1}, 1)")
    return other("dot", code, lambda x, y: np.tensordot(x, y, 1), data_inputs=2)


@operator("batch_dot")
def _batch_dot(*, transpose_a: bool = False, transpose_b: bool = False, forward_stype: str = "") -> Operation:
    if forward_stype not in FORWARD_TYPES:
        return refuse("batch_dot", "forward_stype is not supported", data_inputs=2)
    names = [
        f"{{{at}}}.transpose(1, 2)" if turned else f"{{{at}}}"
        for at, turned in enumerate((transpose_a, transpose_b))
    ]

    def compute(x: Array, y: Array) -> Array:
        product: Array = (x.swapaxes(1, 2) if transpose_a else x) @ (y.swapaxes(1, 2) if transpose_b else y)
        return product

    return other("batch_dot", Code(" @ ".join(names)), compute, data_inputs=2, keeps_rank=True)
