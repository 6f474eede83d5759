"""Upsampling and bilinear resizing.

Source: src/operator/nn/upsampling-inl.h, src/operator/contrib/bilinear_resize-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Single
from converter.graphs.operators.code import Code
from converter.graphs.operators.convolution_arrays import transpose_convolve
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
    if sample_type == "bilinear":
        return _bilinear_upsampling(scale)
    if num_args == 1:
        code = Code(f"F.interpolate({{0}}, scale_factor={scale})")
        return other("UpSampling", code, lambda x: x.repeat(scale, 2).repeat(scale, 3), rank=IMAGE_RANK)
    summed = multi_input_mode == "sum"

    def compute(*arrays: Array) -> Array:
        height = arrays[0].shape[2] * scale
        whole = [x.repeat(height // x.shape[2], 2).repeat(height // x.shape[2], 3) for x in arrays]
        total: Array = sum(whole[1:], whole[0]) if summed else np.concatenate(whole, 1)
        return total

    joined = "torch.stack({0}).sum(0)" if summed else "torch.cat({0}, 1)"
    inputs = ", ".join(f"{{{number}}}" for number in range(num_args))
    code = Code(joined.replace("{0}", f"upsample({scale}, {inputs})"), helpers=("upsample",))
    return other("UpSampling", code, compute, data_inputs=num_args, rank=IMAGE_RANK)


def _bilinear_upsampling(scale: int) -> Operation:
    """Return a deconvolution of each channel, with a weight that is an input."""
    kernel, padding = 2 * scale - scale % 2, -(-(scale - 1) // 2)

    def compute(x: Array, weight: Array) -> Array:
        options = {"stride": (scale, scale), "padding": (padding, padding), "added": (0, 0)}
        return transpose_convolve(
            x, weight.reshape(-1, 1, kernel, kernel), None, **options, dilation=(1, 1), groups=x.shape[1]
        )

    options = f"stride={scale}, padding={padding}, groups={{0}}.shape[1]"
    code = Code(f"F.conv_transpose2d({{0}}, {{1}}, {options})")
    return other("UpSampling", code, compute, roles=("weight",), rank=IMAGE_RANK)


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
    if scale_height is not None or scale_width is not None or mode not in {"size", "like"}:
        return _bilinear_rescale(mode, scale_height, scale_width, align_corners=align_corners)
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
        shapes_only=(1,),
        rank=IMAGE_RANK,
    )


def _single_product(length: int, scale: float | None) -> int:
    """Return a size times a scale, in MXNet's float32, without its fraction."""
    return int(np.float32(length) * np.float32(scale or 1))


def _bilinear_rescale(
    mode: str, scale_height: float | None, scale_width: float | None, *, align_corners: bool
) -> Operation:
    """Return a resizing to a size that depends on that of the input."""
    scaled = mode in {"size", "odd_scale"}
    if not align_corners or (scaled and None in {scale_height, scale_width}):
        reason = "one scale is missing" if align_corners else "align_corners is False with a scale or mode"
        return refuse("_contrib_BilinearResize2D", reason, data_inputs=1)
    if mode == "like":
        return refuse("_contrib_BilinearResize2D", "mode is like with a scale", data_inputs=2)

    def size(length: int, scale: float | None) -> int:
        if mode == "size":
            return _single_product(length, scale)
        if mode == "odd_scale":
            return _single_product(length - length % 2, scale) + length % 2
        wanted, step = int("odd" in mode), 1 if mode.endswith("up") else -1
        return length if length % 2 == wanted else length + step

    def compute(x: Array) -> Array:
        for axis, scale in ((2, scale_height), (3, scale_width)):
            x = _resized(x, axis, size(x.shape[axis], scale), align_corners=True)
        return x

    text = f'mode="{mode}", scales=({scale_height!r}, {scale_width!r})' if scaled else f'mode="{mode}"'
    code = Code(f"resize({{0}}, {text})", helpers=("resize",))
    return other("_contrib_BilinearResize2D", code, compute, rank=IMAGE_RANK)


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
