"""Tensors without data: zeros, ones and ranges.

In the generated module they are buffers that are not saved, so that they follow the network's device and
precision. Values that float32 does not hold are computed from those that it holds.

Source: src/operator/tensor/init_op.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes
from converter.graphs.operators.code import Code
from converter.graphs.operators.elementwise import FLOATS, INTEGERS
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

LAYER = "{layer}"


@operator("_zeros")
def _zeros(*, shape: Axes = (), ctx: str = "", dtype: str = "float32") -> Operation:
    return _filled("_zeros", shape, 0.0, dtype)


@operator("_ones")
def _ones(*, shape: Axes = (), ctx: str = "", dtype: str = "float32") -> Operation:
    return _filled("_ones", shape, 1.0, dtype)


@operator("_full")
def _full(*, value: float, shape: Axes = (), ctx: str = "", dtype: str = "float32") -> Operation:
    return _filled("_full", shape, value, dtype)


@operator("_eye")
def _eye(*, N: int, M: int = 0, k: int = 0, ctx: str = "", dtype: str = "float32") -> Operation:  # noqa: N803 - MXNet's
    if dtype not in FLOATS or k:
        return refuse("_eye", "k is not 0" if k else f"dtype is {dtype}", data_inputs=0)
    code = Code(LAYER, constant=f"torch.eye({N}, {M or N})")
    array = np.eye(N, M or N, dtype=np.float32)
    return other("_eye", code, lambda: array, data_inputs=0, rank=2, integers=())


@operator("_arange")
def _arange(
    *,
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool = False,
    ctx: str = "",
    dtype: str = "float32",
) -> Operation:
    if infer_range or dtype not in FLOATS | INTEGERS:
        reason = "infer_range is not supported" if infer_range else f"dtype is {dtype}"
        return refuse("_arange", reason, data_inputs=0)
    first, last = (0.0, start) if stop is None else (start, stop)
    count = math.ceil((last - first) / step) if step else 0
    if count < 1:
        return refuse("_arange", "the range is empty", data_inputs=0)
    array = np.repeat(first + step * np.arange(count), repeat)
    repeated = f".repeat_interleave({repeat})" if repeat != 1 else ""
    if dtype in INTEGERS or (first.is_integer() and step.is_integer() and _is_single(array)):
        bounds = _range_text(first, first + step * count, step, whole=dtype in INTEGERS)
        code = Code(LAYER, constant=f"torch.arange({bounds}{_type(dtype)}){repeated}")
    else:
        code = Code(f"{LAYER} * {step!r} + {first!r}", constant=f"torch.arange({count}.0){repeated}")
    return other(
        "_arange", code, lambda: _typed(array, dtype), data_inputs=0, rank=1, integers=_integers(dtype)
    )


@operator("_contrib_arange_like")
def _arange_like(
    *, start: float = 0.0, step: float = 1.0, repeat: int = 1, ctx: str = "", axis: int | None = None
) -> Operation:
    def compute(x: Array) -> Array:
        count = x.size if axis is None else x.shape[axis]
        values = start + step * (np.arange(count) // repeat)
        return values.astype(x.dtype).reshape(x.shape if axis is None else -1)

    arguments = f"start={start!r}, step={step!r}, repeat={repeat}, axis={axis}"
    code = Code(f"arange_like({{0}}, {arguments})", helpers=("arange_like",))
    return other("_contrib_arange_like", code, compute, keeps_rank=axis is None, shapes_only=(0,))


@operator("shape_array")
def _shape_array() -> Operation:
    code = Code("torch.tensor({0}.shape, device={0}.device)")
    return other(
        "shape_array", code, lambda x: np.array(x.shape, np.int64), rank=1, integers=(0,), shapes_only=(0,)
    )


@operator("size_array")
def _size_array() -> Operation:
    code = Code("torch.tensor([{0}.numel()], device={0}.device)")
    return other(
        "size_array", code, lambda x: np.array([x.size], np.int64), rank=1, integers=(0,), shapes_only=(0,)
    )


def _filled(name: str, shape: Axes, value: float, dtype: str) -> Operation:
    if not shape or min(shape) < 1 or dtype not in FLOATS | INTEGERS:
        reason = (
            "a part of shape is left to be inferred" if dtype in FLOATS | INTEGERS else f"dtype is {dtype}"
        )
        return refuse(name, reason, data_inputs=0)
    sizes = shape
    array = np.full(sizes, value)
    factory = {0.0: "torch.zeros({0}{1})", 1.0: "torch.ones({0}{1})"}.get(value, "torch.full({0}, {2}{1})")
    if dtype in INTEGERS:
        code = Code(LAYER, constant=factory.format(sizes, _type(dtype), int(value)))
    elif _is_single(array):
        code = Code(LAYER, constant=factory.format(sizes, "", repr(value)))
    else:
        code = Code(f"{LAYER} * {value!r}", constant=f"torch.ones({sizes})")
    return other(
        name, code, lambda: _typed(array, dtype), data_inputs=0, rank=len(sizes), integers=_integers(dtype)
    )


def _is_single(array: Array) -> bool:
    """Return whether float32 holds all values."""
    return bool((array.astype(np.float32) == array).all())


def _typed(array: Array, dtype: str) -> Array:
    if dtype in INTEGERS:
        return array.astype(dtype)
    return array.astype(np.float32) if _is_single(array) else array


def _integers(dtype: str) -> tuple[int, ...]:
    return (0,) if dtype in INTEGERS else ()


def _type(dtype: str) -> str:
    return f", dtype=torch.{dtype}" if dtype in INTEGERS else ""


def _range_text(first: float, last: float, step: float, *, whole: bool) -> str:
    """Return the arguments of a range, without those that have PyTorch's defaults."""
    values = [last] if (first, step) == (0, 1) else [first, last, step][: 2 if step == 1 else 3]
    return ", ".join(str(int(value)) if whole else repr(value) for value in values)
