"""Spatial transformers: grids, and bilinear samples at their places.

Source: src/operator/{grid_generator,bilinear_sampler,spatial_transformer}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes
from converter.graphs.operators.code import Code
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

IMAGE_RANK = 4


@operator("GridGenerator")
def _grid_generator(*, transform_type: Literal["affine", "warp"], target_shape: Axes = (0, 0)) -> Operation:
    if transform_type == "warp":
        code = Code("warp_grid({0})", helpers=("warp_grid",))
        return other("GridGenerator", code, _warped, rank=IMAGE_RANK)
    if min(target_shape) < 1:
        return refuse("GridGenerator", "target_shape is omitted", data_inputs=1)
    code = Code(f"affine_grid({{0}}, {target_shape})", helpers=("affine_grid",))
    return other("GridGenerator", code, lambda x: _affine(x, target_shape), rank=IMAGE_RANK)


@operator("BilinearSampler")
def _bilinear_sampler(*, cudnn_off: bool = False) -> Operation:
    code = Code("F.grid_sample({0}, {1}.permute(0, 2, 3, 1), align_corners=True)")
    return other("BilinearSampler", code, _sampled, data_inputs=2, rank=IMAGE_RANK)


@operator("SpatialTransformer")
def _spatial_transformer(
    *,
    transform_type: Literal["affine"],
    sampler_type: Literal["bilinear"],
    target_shape: Axes = (0, 0),
    cudnn_off: bool = False,
) -> Operation:
    if min(target_shape) < 1:
        return refuse("SpatialTransformer", "target_shape is omitted", data_inputs=2)
    grid = f"affine_grid({{1}}, {target_shape}).permute(0, 2, 3, 1)"
    return other(
        "SpatialTransformer",
        Code(f"F.grid_sample({{0}}, {grid}, align_corners=True)", helpers=("affine_grid",)),
        lambda x, places: _sampled(x, _affine(places, target_shape)),
        data_inputs=2,
        rank=IMAGE_RANK,
    )


def _base(height: int, width: int) -> Array:
    """Return the places (2, h, w) of an image's elements, from -1 to 1."""
    y, x = (np.linspace(-1, 1, size) if size > 1 else np.array([-1.0]) for size in (height, width))
    return np.stack(np.meshgrid(x, y))


def _affine(x: Array, shape: Axes) -> Array:
    """Return the places (n, 2, h, w) of an image's elements after affine maps (n, 6)."""
    base = _base(*shape).reshape(2, -1)
    whole = np.concatenate([base, np.ones((1, base.shape[1]))]).astype(x.dtype)
    places: Array = (x.reshape(-1, 2, 3) @ whole).reshape(-1, 2, *shape)
    return places


def _warped(x: Array) -> Array:
    """Return the places of an image's elements after a shift (n, 2, h, w) in elements."""
    height, width = x.shape[2:]
    rows, columns = np.indices((height, width))
    y = np.empty_like(x)
    y[:, 0] = (columns + x[:, 0]) / ((width - 1) / 2) - 1
    y[:, 1] = (rows + x[:, 1]) / ((height - 1) / 2) - 1
    return y


def _sampled(x: Array, grid: Array) -> Array:
    """Return bilinear samples of an image, which continues as zeros."""
    height, width = x.shape[2:]
    across, down = (grid[:, 0] + 1) * (width - 1) / 2, (grid[:, 1] + 1) * (height - 1) / 2
    left, top = np.floor(across).astype(np.int64), np.floor(down).astype(np.int64)
    images = np.arange(len(x))[:, None, None]
    total = np.zeros((len(x), *grid.shape[2:], x.shape[1]), x.dtype)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weight = np.where(inside, (1 - np.abs(down - row)) * (1 - np.abs(across - column)), 0)
        values = x[images, :, row.clip(0, height - 1), column.clip(0, width - 1)]
        total += values * weight[..., None].astype(x.dtype)
    return total.transpose(0, 3, 1, 2)
