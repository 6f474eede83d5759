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
    refused = "exclude with negative axes" if exclude and (not axis or min(axis) < 0) else ""
    return Operation(
        kind="mean",
        settings=settings,
        code=None if refused else _reduced("mean", axis, keepdims=keepdims, exclude=exclude),
        compute=_reduction(np.mean, axis, keepdims=keepdims, exclude=exclude),
        refused=refused,
        keeps_rank=keepdims,
        floating_only=True,
    )


@operator("_npi_mean")
def _numpy_mean(*, axis: Axes = (), keepdims: bool = False, dtype: str = "", initial: str = "") -> Operation:
    if dtype or initial:
        settings: Settings = {"axis": axis, "dtype": dtype, "initial": initial}
        return Operation(kind="mean", settings=settings, refused="dtype and initial are not supported")
    return _mean(axis=axis, keepdims=keepdims)


def _reduce(name: str, method: str, function: Callable[..., Array]) -> Callable[..., Operation]:
    def schema(*, axis: Axes = (), keepdims: bool = False, exclude: bool = False) -> Operation:
        if exclude and (not axis or min(axis) < 0):
            return refuse(name, "exclude with negative axes is not supported", data_inputs=1)
        code = _reduced(method, axis, keepdims=keepdims, exclude=exclude)
        compute = _reduction(function, axis, keepdims=keepdims, exclude=exclude)
        return other(name, code, compute, keeps_rank=keepdims)

    return schema


def _reduced(method: str, axis: Axes, *, keepdims: bool, exclude: bool = False) -> Code:
    """Return a reduction as PyTorch code; MXNet's result has at least one axis."""
    keep = ", keepdim=True" if keepdims else ""
    if exclude:
        return Code(f"{{0}}.{method}(other_axes({{0}}, {axis}){keep})", helpers=("other_axes",))
    if axis:
        removed = 0 if keepdims else len(axis)
        return Code(f"{{0}}.{method}({axis[0] if len(axis) == 1 else axis}{keep})", removed_axes=removed)
    if keepdims:
        return Code(f"{{0}}.{method}(tuple(range({{0}}.dim())){keep})")
    return Code(f"{{0}}.{method}().reshape(1)")


def _reduction(
    function: Callable[..., Array], axis: Axes, *, keepdims: bool, exclude: bool = False
) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        axes = tuple(at for at in range(x.ndim) if at not in axis) if exclude else axis or None
        y = function(x, axis=axes, keepdims=keepdims)
        return np.reshape(y, (1,)) if np.ndim(y) == 0 else y

    return compute


operator("sum", "sum_axis")(_reduce("sum", "sum", np.sum))
operator("max", "max_axis")(_reduce("max", "amax", np.max))
operator("min", "min_axis")(_reduce("min", "amin", np.min))
operator("nansum")(_reduce("nansum", "nansum", np.nansum))


@operator("prod")
def _product(*, axis: Axes = (), keepdims: bool = False, exclude: bool = False) -> Operation:
    if exclude or (keepdims and not axis) or len({each < 0 for each in axis}) > 1:
        return refuse("prod", "these axes are not supported", data_inputs=1)
    keep = ", keepdim=True" if keepdims else ""
    steps = "".join(f".prod({each}{keep})" for each in sorted(axis, reverse=min(axis, default=0) >= 0))
    code = Code(f"{{0}}{steps or '.prod().reshape(1)'}", removed_axes=0 if keepdims else len(axis))
    return other("prod", code, _reduction(np.prod, axis, keepdims=keepdims), keeps_rank=keepdims)


@operator("norm")
def _norm(
    *,
    ord: int = 2,  # noqa: A002 - MXNet's name
    axis: Axes | None = None,
    out_dtype: str = "",
    keepdims: bool = False,
) -> Operation:
    if ord not in {1, 2} or out_dtype or (ord == 1 and axis is not None and len(axis) > 1):
        return refuse("norm", "ord is not 1 or 2, or out_dtype is given", data_inputs=1)
    norm = f"torch.linalg.vector_norm({{0}}, {ord}"
    along = "tuple(range({0}.dim()))" if axis is None else str(axis)
    text = f"{norm}, {along}{', keepdim=True' if keepdims else ''})"
    removed = 0 if keepdims else len(axis or ())
    code = Code(f"{text}.reshape(1)" if axis is None and not keepdims else text, removed_axes=removed)

    def compute(x: Array) -> Array:
        size = np.abs(x) if ord == 1 else x * x
        y = _reduction(np.sum, axis or (), keepdims=keepdims)(size)
        return y if ord == 1 else np.sqrt(y)

    return other("norm", code, compute, keeps_rank=keepdims, floating_only=True)


@operator("cumsum", "_np_cumsum")
def _cumulative_sum(*, axis: int | None = None, dtype: str = "") -> Operation:
    if dtype:
        return refuse("cumsum", "dtype is not supported", data_inputs=1)
    code = Code("{0}.flatten().cumsum(0)" if axis is None else f"{{0}}.cumsum({axis})")
    return other("cumsum", code, lambda x: np.cumsum(x, axis), keeps_rank=axis is not None)


@operator("dot")
def _dot(*, transpose_a: bool = False, transpose_b: bool = False, forward_stype: str = "") -> Operation:
    if forward_stype not in FORWARD_TYPES:
        return refuse("dot", "forward_stype is not supported", data_inputs=2)
    one = "{0}.movedim(0, -1)" if transpose_a else "{0}"
    two = "{1}.movedim(-1, 0)" if transpose_b else "{1}"

    def compute(x: Array, y: Array) -> Array:
        product = np.tensordot(
            np.moveaxis(x, 0, -1) if transpose_a else x, np.moveaxis(y, -1, 0) if transpose_b else y, 1
        )
        return product.reshape(1) if product.ndim == 0 else product

    return other("dot", Code(f"torch.atleast_1d(torch.tensordot({one}, {two}, 1))"), compute, data_inputs=2)


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
