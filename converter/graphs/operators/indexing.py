"""Slices, splits and lookups.

Source: src/operator/tensor/{matrix_op,indexing_op,control_flow_op}-inl.h, src/operator/
{slice_channel,crop}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Bounds, require_axes
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

IMAGE_AXES = 2


@operator("slice", "crop")
def _slice(*, begin: Bounds, end: Bounds, step: Bounds = ()) -> Operation:
    steps = tuple(each or 1 for each in (*step, *(1,) * (len(begin) - len(step))))
    if len(begin) != len(end) or len(steps) != len(begin):
        return refuse("slice", "begin, end and step have different lengths", data_inputs=1)
    if min(steps, default=1) < 1:
        return refuse("slice", "step is negative", data_inputs=1)
    slices = tuple(map(slice, begin, end, steps))
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
    if not axes or min(axes) < 0:
        return refuse("slice_like", "axes are omitted or negative", data_inputs=2)
    require_axes(*axes)
    parts = [f": {{1}}.shape[{axis}]" if axis in axes else ":" for axis in range(max(axes) + 1)]

    def compute(x: Array, like: Array) -> Array:
        return x[tuple(slice(like.shape[axis] if axis in axes else None) for axis in range(max(axes) + 1))]

    return other("slice_like", Code(f"{{0}}[{', '.join(parts)}]"), compute, data_inputs=2, keeps_rank=True)


@operator("Crop")
def _crop(
    *, num_args: int, offset: Axes = (0, 0), h_w: Axes = (0, 0), center_crop: bool = False
) -> Operation:
    if num_args not in {1, IMAGE_AXES} or center_crop:
        return refuse("Crop", "center_crop is not supported" if center_crop else "num_args is not 1 or 2")
    top, left = offset
    size = (
        [f"{{1}}.shape[{axis}]" for axis in (2, 3)] if num_args == IMAGE_AXES else [str(each) for each in h_w]
    )
    ends = [f"{edge} + {length}" if edge else length for edge, length in zip(offset, size, strict=True)]
    code = Code(f"{{0}}[:, :, {top or ''} : {ends[0]}, {left or ''} : {ends[1]}]")

    def compute(x: Array, like: Array | None = None) -> Array:
        height, width = h_w if like is None else like.shape[2:]
        return x[:, :, top : top + height, left : left + width]

    return other("Crop", code, compute, data_inputs=num_args, keeps_rank=num_args == 1)


@operator("SliceChannel", "split")
def _split(*, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> Operation:
    code = Code(f"{{0}}.unbind({axis})" if squeeze_axis else f"{{0}}.chunk({num_outputs}, {axis})")

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

    return other("where", Code("where({0}, {1}, {2})", helpers=("where",)), compute, data_inputs=3)


@operator("Embedding")
def _embedding(
    *, input_dim: int, output_dim: int, dtype: str = "float32", sparse_grad: bool = False
) -> Operation:
    index = f"{{0}}.long().clamp(0, {input_dim - 1})"
    layer = TorchLayer(
        type="nn.Embedding",
        arguments=lambda _: {"_rows": input_dim, "_columns": output_dim},
        tensors={"weight": "weight"},
        applied=f"{{layer}}({index})",
    )

    def compute(x: Array, weight: Array) -> Array:
        return weight[np.clip(x.astype(np.int64), 0, input_dim - 1)]

    return other("Embedding", Code(f"F.embedding({index}, {{1}})", layer), compute, roles=("weight",))


@operator("take")
def _take(*, axis: int = 0, mode: Literal["clip", "raise", "wrap"] = "clip") -> Operation:
    if mode == "raise":
        return refuse("take", "mode is raise", data_inputs=2)
    code = Code(f"take({{0}}, {{1}}, axis={axis}, wrap={mode == 'wrap'})", helpers=("take",))
    return other("take", code, lambda x, index: _taken(x, index, axis, mode), data_inputs=2)


def _taken(x: Array, index: Array, axis: int, mode: Literal["clip", "wrap"]) -> Array:
    """Return the elements at indices that are truncated and then limited or wrapped."""
    return np.take(x, index.astype(np.int64), axis, mode=mode)


def _slice_text(part: slice) -> str:
    """Return a slice as Python code."""
    begin, end, step = ("" if each is None else str(each) for each in (part.start, part.stop, part.step))
    return f"{begin}:{end}" + (f":{step}" if step not in {"", "1"} else "")
