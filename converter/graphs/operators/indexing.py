"""Slices, splits and selections.

Source: src/operator/tensor/{matrix_op,indexing_op,control_flow_op}-inl.h, src/operator/
{slice_channel,crop}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Bounds, require_axes
from converter.graphs.operators.code import Code
from converter.graphs.operators.registry import MXNET, operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

IMAGE_AXES = 2


@operator("slice", "crop")
def _slice(*, begin: Bounds, end: Bounds, step: Bounds = ()) -> Operation:
    steps = tuple(each or 1 for each in (*step, *(1,) * (len(begin) - len(step))))
    if len(begin) != len(end) or len(steps) != len(begin):
        return refuse("slice", "begin, end and step have different lengths", data_inputs=1)
    slices = tuple(map(slice, begin, end, steps))
    if min(steps, default=1) < 1:
        ranges = [(each.start, each.stop, each.step) for each in slices]
        code = Code(f"slice_backwards({{0}}, {ranges})", helpers=("slice_backwards",))
    else:
        code = Code(f"{{0}}[{', '.join(map(_slice_text, slices))}]")
    return other("slice", code, lambda x: x[slices], keeps_rank=True)


@operator("slice_axis")
def _slice_axis(*, axis: int, begin: int, end: int | None) -> Operation:
    require_axes(axis)
    part = slice(begin or None, end)
    every = [":"] * axis if axis >= 0 else ["..."]
    after = [] if axis >= 0 else [":"] * (-axis - 1)
    code = Code(f"{{0}}[{', '.join([*every, _slice_text(part), *after])}]")

    def compute(x: Array) -> Array:
        index = [slice(None)] * x.ndim
        index[axis] = part
        return x[tuple(index)]

    return other("slice_axis", code, compute, keeps_rank=True)


@operator("slice_like")
def _slice_like(*, axes: Axes = ()) -> Operation:
    require_axes(*axes)

    def compute(x: Array, like: Array) -> Array:
        chosen = {axis % x.ndim for axis in axes or range(x.ndim)}
        return x[tuple(slice(like.shape[axis] if axis in chosen else None) for axis in range(x.ndim))]

    if not axes:
        text = "tuple(map(slice, {1}.shape))"
    elif min(axes) >= 0:
        text = ", ".join(f": {{1}}.shape[{axis}]" if axis in axes else ":" for axis in range(max(axes) + 1))
    elif max(axes) < 0:
        parts = (f": {{1}}.shape[{axis}]" if axis in axes else ":" for axis in range(min(axes), 0))
        text = ", ".join(["...", *parts])
    else:
        return refuse("slice_like", "some axes are negative, and some are not", data_inputs=2)
    return other(
        "slice_like", Code(f"{{0}}[{text}]"), compute, data_inputs=2, keeps_rank=not axes, shapes_only=(1,)
    )


@operator("Crop")
def _crop(
    *, num_args: int, offset: Axes = (0, 0), h_w: Axes = (0, 0), center_crop: bool = False
) -> Operation:
    if num_args not in {1, IMAGE_AXES}:
        return refuse("Crop", "num_args is not 1 or 2")
    if center_crop:
        return _center_crop(num_args, h_w)
    top, left = offset
    size = (
        [f"{{1}}.shape[{axis}]" for axis in (2, 3)] if num_args == IMAGE_AXES else [str(each) for each in h_w]
    )
    ends = [f"{edge} + {length}" if edge else length for edge, length in zip(offset, size, strict=True)]
    code = Code(f"{{0}}[:, :, {top or ''} : {ends[0]}, {left or ''} : {ends[1]}]")

    def compute(x: Array, like: Array | None = None) -> Array:
        height, width = h_w if like is None else like.shape[2:]
        return x[:, :, top : top + height, left : left + width]

    return other("Crop", code, compute, data_inputs=num_args, keeps_rank=num_args == 1, shapes_only=(1,))


def _center_crop(num_args: int, h_w: Axes) -> Operation:
    def compute(x: Array, like: Array | None = None) -> Array:
        sizes = h_w if like is None else like.shape[2:]
        top, left = ((size - part) // 2 for size, part in zip(x.shape[2:], sizes, strict=True))
        return x[:, :, top : top + sizes[0], left : left + sizes[1]]

    sizes = "{1}.shape[2], {1}.shape[3]" if num_args == IMAGE_AXES else f"{h_w[0]}, {h_w[1]}"
    code = Code(f"center_crop({{0}}, {sizes})", helpers=("center_crop",))
    return other("Crop", code, compute, data_inputs=num_args, keeps_rank=num_args == 1, shapes_only=(1,))


@operator("_split_v2")
def _split_by_indices(
    *, indices: Axes, axis: int = 1, squeeze_axis: bool = False, sections: int = 0
) -> Operation:
    if sections:
        operation = _split(num_outputs=sections, axis=axis, squeeze_axis=squeeze_axis)
        return replace(operation, kind=f"{MXNET}_split_v2")
    if squeeze_axis or not indices or indices[0]:  # MXNet writes the beginning of each part
        reason = "squeeze_axis is not supported" if squeeze_axis else "indices do not begin with 0"
        return refuse("_split_v2", reason, data_inputs=1)
    code = Code(f"{{0}}.tensor_split({indices[1:]}, {axis})")
    return other(
        "_split_v2",
        code,
        lambda x: tuple(np.split(x, indices[1:], axis)),
        outputs=len(indices),
        keeps_rank=True,
    )


@operator("SliceChannel", "split")
def _split(*, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> Operation:
    code = Code(f"{{0}}.unbind({axis})" if squeeze_axis else f"{{0}}.chunk({num_outputs}, {axis})")
    if num_outputs == 1:
        code = Code(f"{{0}}.squeeze({axis})" if squeeze_axis else "{0}")

    def compute(x: Array) -> tuple[Array, ...]:
        parts = np.split(x, num_outputs, axis)
        return tuple(part.squeeze(axis) for part in parts) if squeeze_axis else tuple(parts)

    return other("SliceChannel", code, compute, outputs=num_outputs, keeps_rank=not squeeze_axis)


@operator("where")
def _where() -> Operation:
    def compute(condition: Array, x: Array, y: Array) -> Array:
        if condition.ndim == 1:  # selects rows
            condition = condition.reshape((-1,) + (1,) * (x.ndim - 1))
        return np.where(condition != 0, x, y)

    return other(
        "where", Code("where({0}, {1}, {2})", helpers=("where",)), compute, data_inputs=3, typed_by=1
    )


def _slice_text(part: slice) -> str:
    """Return a slice as Python code."""
    begin, end, step = ("" if each is None else str(each) for each in (part.start, part.stop, part.step))
    return f"{begin}:{end}" + (f":{step}" if step not in {"", "1"} else "")
