"""Pools of regions, and convolutions at shifted places, on arrays: one sample after the other."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.dtypes import Array
    from converter.graphs.operators.attributes import Axes


def roi_align(x: Array, regions: Array, size: Axes, scale: float, samples: int, *, aligned: bool) -> Array:
    """Average bilinear samples in the bins of regions (count, 5)."""
    y = np.zeros((len(regions), x.shape[1], *size), x.dtype)
    for number, region in enumerate(regions):
        if region[0] < 0:
            continue
        image = x[int(region[0])]
        left, top, right, bottom = region[1:] * scale - (0.5 if aligned else 0)
        least = -math.inf if aligned else 1.0
        high, wide = max(bottom - top, least) / size[0], max(right - left, least) / size[1]
        rows, columns = (samples, samples) if samples > 0 else (math.ceil(high), math.ceil(wide))
        for row, column in np.ndindex(*size):
            values = [
                _sample(
                    image, top + (row + (i + 0.5) / rows) * high, left + (column + (j + 0.5) / columns) * wide
                )
                for i, j in itertools.product(range(rows), range(columns))
            ]
            y[number, :, row, column] = sum(values) / max(1, len(values))
    return y


def _sample(image: Array, y: float, x: float) -> Array:
    """Interpolate (channels, h, w), which continues for one element; beyond it is 0."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(image), image.dtype)
    return _between(image, min(max(y, 0), height - 1), min(max(x, 0), width - 1))


def _between(image: Array, y: float, x: float) -> Array:
    """Interpolate (channels, h, w) between its elements; those outside are 0."""
    top, left = math.floor(y), math.floor(x)
    total = np.zeros(len(image), image.dtype)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def roi_pool(x: Array, regions: Array, size: Axes, scale: float) -> Array:
    """Return the maxima in the bins of regions (count, 5)."""
    y = np.zeros((len(regions), x.shape[1], *size), x.dtype)
    for number, region in enumerate(regions):
        left, top, right, bottom = (
            int(math.copysign(math.floor(abs(each) + 0.5), each)) for each in region[1:] * scale
        )
        high, wide = max(bottom - top + 1, 1) / size[0], max(right - left + 1, 1) / size[1]
        for row, column in np.ndindex(*size):
            part = x[
                int(region[0]),
                :,
                max(0, math.floor(row * high) + top) : max(0, math.ceil((row + 1) * high) + top),
                max(0, math.floor(column * wide) + left) : max(0, math.ceil((column + 1) * wide) + left),
            ]
            if part.size:
                y[number, :, row, column] = part.max((1, 2))
    return y


class Deformation(TypedDict):
    """The options of a deformable convolution."""

    stride: Axes
    padding: Axes
    dilation: Axes
    groups: int
    offset_groups: int


def deformable_convolution(
    x: Array, offset: Array, mask: Array | None, parameters: Sequence[Array], options: Deformation
) -> Array:
    """Convolve bilinear samples at the places of the kernel plus an offset.

    Args:
        x: the image.
        offset: the offsets.
        mask: factors of the samples, None in version 1.
        parameters: the weight, and perhaps a bias.
        options: the options.
    """
    weight, *bias = parameters
    stride, padding, dilation = options["stride"], options["padding"], options["dilation"]
    groups, offset_groups = options["groups"], options["offset_groups"]
    height, width = x.shape[2:]
    count, part = x.shape[1] // groups, x.shape[1] // offset_groups
    y = np.zeros((len(x), len(weight), *offset.shape[2:]), x.dtype)
    shifts = offset.reshape(len(x), offset_groups, *weight.shape[2:], 2, *offset.shape[2:])
    for image, row, column, i, j, group in np.ndindex(
        len(x), *offset.shape[2:], *weight.shape[2:], offset_groups
    ):
        down, across = shifts[image, group, i, j, :, row, column]
        at_y = row * stride[0] - padding[0] + i * dilation[0] + down
        at_x = column * stride[1] - padding[1] + j * dilation[1] + across
        channels = range(group * part, (group + 1) * part)
        if mask is None:
            if not (0 <= at_y < height and 0 <= at_x < width):
                continue
            at_y, at_x = min(at_y, height - 1), min(at_x, width - 1)
        values = _between(x[image, channels], at_y, at_x)
        if mask is not None:
            masks = mask.reshape(len(x), offset_groups, *weight.shape[2:], *offset.shape[2:])
            values = values * masks[image, group, i, j, row, column]
        for channel, value in zip(channels, values, strict=True):
            filters = slice(
                channel // count * (len(weight) // groups), (channel // count + 1) * (len(weight) // groups)
            )
            y[image, filters, row, column] += weight[filters, channel % count, i, j] * value
    return y + bias[0].astype(x.dtype).reshape(-1, 1, 1) if bias else y
