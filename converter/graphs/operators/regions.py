"""Region pooling (ROIAlign, ROIPooling) and deformable convolution.

Source: src/operator/contrib/{roi_align,deformable_convolution,modulated_deformable_convolution}-inl.h,
src/operator/roi_pooling-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.graphs.graph import Operation
from converter.graphs.operators import region_arrays
from converter.graphs.operators.attributes import Axes, Pair, Single
from converter.graphs.operators.code import Code
from converter.graphs.operators.convolution import both
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

IMAGE_RANK, IMAGE_AXES = 4, 2


@operator("_contrib_ROIAlign")
def _roi_align(
    *,
    pooled_size: Axes,
    spatial_scale: Single,
    sample_ratio: int = -1,
    position_sensitive: bool = False,
    aligned: bool = False,
) -> Operation:
    if position_sensitive or len(pooled_size) != IMAGE_AXES:
        reason = "position_sensitive is not supported" if position_sensitive else "pooled_size is not a pair"
        return refuse("_contrib_ROIAlign", reason, data_inputs=2)
    samples = max(sample_ratio, 0)
    text = f"size={pooled_size}, scale={spatial_scale!r}, samples={samples}, aligned={aligned}"

    def compute(x: Array, regions: Array) -> Array:
        return region_arrays.roi_align(x, regions, pooled_size, spatial_scale, samples, aligned=aligned)

    code = Code(f"roi_align({{0}}, {{1}}, {text})", helpers=("roi_align",))
    return other("_contrib_ROIAlign", code, compute, data_inputs=2, rank=IMAGE_RANK)


@operator("ROIPooling")
def _roi_pooling(*, pooled_size: Axes, spatial_scale: Single) -> Operation:
    if len(pooled_size) != IMAGE_AXES:
        return refuse("ROIPooling", "pooled_size is not a pair", data_inputs=2)
    code = Code(f"roi_pool({{0}}, {{1}}, size={pooled_size}, scale={spatial_scale!r})", helpers=("roi_pool",))
    return other(
        "ROIPooling",
        code,
        lambda x, regions: region_arrays.roi_pool(x, regions, pooled_size, spatial_scale),
        data_inputs=2,
        rank=IMAGE_RANK,
    )


@operator("_contrib_DeformableConvolution")
def _deformable_convolution(
    *,
    kernel: Pair,
    num_filter: int,
    stride: Pair = 1,
    dilate: Pair = 1,
    pad: Pair = 0,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    layout: str = "NCHW",
) -> Operation:
    return _deformable(
        "_contrib_DeformableConvolution",
        [both(stride), both(pad), both(dilate)],
        (num_group, num_deformable_group),
        masked=False,
        no_bias=no_bias,
        layout=layout,
    )


@operator("_contrib_ModulatedDeformableConvolution")
def _modulated_deformable_convolution(
    *,
    kernel: Pair,
    num_filter: int,
    stride: Pair = 1,
    dilate: Pair = 1,
    pad: Pair = 0,
    num_group: int = 1,
    num_deformable_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    im2col_step: int = 64,
    layout: str = "NCHW",
) -> Operation:
    return _deformable(
        "_contrib_ModulatedDeformableConvolution",
        [both(stride), both(pad), both(dilate)],
        (num_group, num_deformable_group),
        masked=True,
        no_bias=no_bias,
        layout=layout,
    )


def _deformable(
    name: str, sizes: list[Axes], groups: tuple[int, int], *, masked: bool, no_bias: bool, layout: str
) -> Operation:
    data_inputs = 3 if masked else 2
    if layout != "NCHW":
        return refuse(name, "layout is not NCHW")
    options: region_arrays.Deformation = {
        "stride": sizes[0],
        "padding": sizes[1],
        "dilation": sizes[2],
        "groups": groups[0],
        "offset_groups": groups[1],
    }

    def compute(x: Array, offset: Array, *others: Array) -> Array:
        mask, parameters = (others[0], others[1:]) if masked else (None, others)
        return region_arrays.deformable_convolution(x, offset, mask, parameters, options)

    mask, weight = ("{2}", "{3}") if masked else ("None", "{2}")
    bias = "None" if no_bias else f"{{{data_inputs + 1}}}"
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    code = Code(
        f"deformable_convolution({{0}}, {{1}}, {mask}, {weight}, {bias}, {text})",
        helpers=("deformable_convolution",),
    )
    roles = ("weight",) if no_bias else ("weight", "bias")
    return other(name, code, compute, roles=roles, data_inputs=data_inputs, rank=IMAGE_RANK)
