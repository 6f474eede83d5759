"""Sorting, the largest elements, and their places.

Source: src/operator/tensor/{ordering_op,broadcast_reduce_op}-inl.h, apache/mxnet 1.9.1. The order of equal
elements is undefined in MXNet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.code import Code
from converter.graphs.operators.elementwise import INTEGERS
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array


@operator("topk")
def _topk(
    *,
    axis: int | None = -1,
    k: int = 1,
    ret_typ: Literal["both", "indices", "mask", "value"] = "indices",
    is_ascend: bool = False,
    dtype: str = "float32",
) -> Operation:
    if axis is None and ret_typ == "mask":
        return refuse("topk", "ret_typ is mask without an axis", data_inputs=1)
    data, along = ("{0}.flatten()", 0) if axis is None else ("{0}", axis)
    whole = ret_typ == "mask" or dtype in INTEGERS
    call = f"top({data}, {max(k, 0)}, {along}, largest={not is_ascend}, whole={whole})"
    expressions = {
        "both": call,
        "indices": f"{call}[1]",
        "mask": f"torch.zeros_like({{0}}).scatter({along}, {call}[1], 1)",
        "value": f"{call}[0]",
    }

    def compute(x: Array) -> Array | tuple[Array, Array]:
        flat = x.reshape(-1) if axis is None else x
        order = _order(flat, along, ascending=is_ascend).take(range(k or flat.shape[along]), along)
        values = np.take_along_axis(flat, order, along)
        if ret_typ == "mask":
            mask = np.zeros_like(x)
            np.put_along_axis(mask, order, 1, along)
            return mask
        places = order.astype(dtype if dtype in INTEGERS else np.promote_types(x.dtype, np.float32))
        if ret_typ == "both":
            return values, places
        return places if ret_typ == "indices" else values

    integers = {"both": (1,), "indices": (0,)}.get(ret_typ, ()) if dtype in INTEGERS else ()
    code = Code(expressions[ret_typ], helpers=("top",))
    outputs = 2 if ret_typ == "both" else 1
    operation = other("topk", code, compute, outputs=outputs, integers=integers, keeps_rank=axis is not None)
    return replace(operation, discrete=True)


@operator("sort")
def _sort(*, axis: int | None = -1, is_ascend: bool = True) -> Operation:
    data, along = ("{0}.flatten()", 0) if axis is None else ("{0}", axis)

    def compute(x: Array) -> Array:
        y = np.sort(x, axis)
        return y if is_ascend else np.flip(y, along)

    code = Code(f"{data}.sort({along}, descending={not is_ascend}).values")
    return replace(other("sort", code, compute, keeps_rank=axis is not None), discrete=True)


@operator("argsort")
def _argsort(*, axis: int | None = -1, is_ascend: bool = True, dtype: str = "float32") -> Operation:
    data, along = ("{0}.flatten()", 0) if axis is None else ("{0}", axis)

    def compute(x: Array) -> Array:
        order = _order(x.reshape(-1) if axis is None else x, along, ascending=is_ascend)
        return order.astype(dtype if dtype in INTEGERS else np.promote_types(x.dtype, np.float32))

    code = Code(f"{data}.sort(dim={along}, descending={not is_ascend}, stable=True).indices{_type(dtype)}")
    integers = (0,) if dtype in INTEGERS else ()
    operation = other("argsort", code, compute, integers=integers, keeps_rank=axis is not None)
    return replace(operation, discrete=True)


@operator("argmax")
def _argmax(*, axis: int | None = None, keepdims: bool = False) -> Operation:
    return _extreme("argmax", axis, keepdims=keepdims)


@operator("argmin")
def _argmin(*, axis: int | None = None, keepdims: bool = False) -> Operation:
    return _extreme("argmin", axis, keepdims=keepdims)


@operator("argmax_channel")
def _argmax_channel() -> Operation:
    code = Code("{0}.argmax(1).to({0}.dtype)")
    operation = other("argmax_channel", code, lambda x: np.argmax(x, 1).astype(x.dtype))
    return replace(operation, discrete=True)


def _extreme(name: Literal["argmax", "argmin"], axis: int | None, *, keepdims: bool) -> Operation:
    if (keepdims and axis is None) or (axis is not None and axis < 0):
        # MXNet 1.9.1 takes a negative axis for no axis.
        return refuse(name, "axis is negative" if axis else "keepdims without an axis", data_inputs=1)
    function = {"argmax": np.argmax, "argmin": np.argmin}[name]

    def compute(x: Array) -> Array:
        return np.atleast_1d(function(x, axis, keepdims=keepdims)).astype(x.dtype)

    if axis is None:
        code = Code(f"{{0}}.{name}().reshape(1).to({{0}}.dtype)")
    else:
        keep = ", keepdim=True" if keepdims else ""
        code = Code(f"{{0}}.{name}({axis}{keep}).to({{0}}.dtype)", removed_axes=not keepdims)
    return replace(other(name, code, compute, keeps_rank=keepdims), discrete=True)


def _order(x: Array, axis: int, *, ascending: bool) -> Array:
    order: Array = np.argsort(x if ascending else -x, axis, kind="stable")
    return order


def _type(dtype: str) -> str:
    """Return the conversion of indices: to the input's type, at least float32, if MXNet's is floating."""
    floating = "torch.promote_types({0}.dtype, torch.float32)"
    return f".to({f'torch.{dtype}' if dtype in INTEGERS else floating})"
