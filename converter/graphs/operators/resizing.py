"""Upsampling and bilinear resizing.

Source: src/operator/nn/upsampling-inl.h, src/operator/contrib/bilinear_resize-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Single
from converter.graphs.operators.code import Code
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

IMAGE_RANK = 4


@operator("UpSampling")
def _upsampling(
    *,
    scale: int,
    sample_type: Literal["bilinear", "nearest"],
    num_args: int,
    num_filter: int = 0,
    multi_input_mode: Literal["concat", "sum"] = "concat",
    workspace: int = 512,
) -> Operation:
    if sample_type != "nearest" or num_args != 1:
        reason = "sample_type is not nearest" if sample_type != "nearest" else "num_args is not 1"
        return refuse("UpSampling", reason)
    code = Code(f"F.interpolate({{0}}, scale_factor={scale})")
    return other("UpSampling", code, lambda x: x.repeat(scale, 2).repeat(scale, 3), rank=IMAGE_RANK)


@operator("_contrib_BilinearResize2D")
def _bilinear_resize(
    *,
    height: int = 1,
    width: int = 1,
    scale_height: Single | None = None,
    scale_width: Single | None = None,
    mode: Literal[
        "like", "odd_scale", "size", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up"
    ] = "size",
    align_corners: bool = True,
) -> Operation:
    scales = scale_height is not None or scale_width is not None
    if mode not in {"size", "like"} or scales:
        reason = (
            "mode is not size or like" if mode not in {"size", "like"} else "scale_height is not supported"
        )
        return refuse("_contrib_BilinearResize2D", reason)
    if mode == "like" and not align_corners:
        return refuse("_contrib_BilinearResize2D", "mode is like with align_corners False")
    size = "{1}.shape[2:]" if mode == "like" else f"({height}, {width})"
    data = "{0}"
    if mode == "size" and 1 in {height, width} and not align_corners:
        # MXNet's scale is 0 for a single element, which is then the first; PyTorch takes the middle.
        data += f"[:, :, {':1' if height == 1 else ':'}, {':1' if width == 1 else ':'}]"
    code = Code(f'F.interpolate({data}, size={size}, mode="bilinear", align_corners={align_corners})')

    def compute(x: Array, like: Array | None = None) -> Array:
        sizes = (height, width) if like is None else like.shape[2:]
        for axis, count in zip((2, 3), sizes, strict=True):
            x = _resized(x, axis, count, align_corners=align_corners)
        return x

    return other(
        "_contrib_BilinearResize2D",
        code,
        compute,
        data_inputs=2 if mode == "like" else 1,
        rank=IMAGE_RANK,
    )


def _resized(x: Array, axis: int, count: int, *, align_corners: bool) -> Array:
    """Interpolate linearly along an axis."""
    size = x.shape[axis]
    if align_corners:
        place = np.arange(count) * ((size - 1) / (count - 1) if count > 1 else 0)
    else:
        place = np.maximum((np.arange(count) + 0.5) * (size / count if count > 1 else 0) - 0.5, 0)
    before = np.minimum(place.astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    weight = (place - before).astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    y: Array = x.take(before, axis) * (1 - weight) + x.take(after, axis) * weight
    return y
