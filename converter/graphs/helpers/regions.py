"""Region pooling (ROIAlign, ROIPooling) and deformable convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name
from torch import Tensor


def sample_places(begin: Tensor, size: Tensor, count: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return the places of samples along an axis, and which of them count, as (regions, count * samples).

    Args:
        begin: the beginnings of the regions.
        size: the sizes of their bins.
        count: the number of bins.
        samples: the number of samples in a bin, 0 for as many as the bin has elements.
    """
    numbers = torch.full_like(size, samples) if samples else size.ceil()
    most = samples or max(1, int(numbers.max()))
    place = torch.arange(most, dtype=size.dtype, device=size.device)
    inside = (place + 0.5) * (size / numbers.clamp(min=1))[:, None]
    bins = torch.arange(count, dtype=size.dtype, device=size.device)[:, None] * size[:, None, None]
    places = begin[:, None, None] + bins + inside[:, None]
    weights = (place < numbers[:, None]) / numbers.clamp(min=1)[:, None]
    return places.flatten(1), weights[:, None].expand_as(places).flatten(1)


def edge_weights(places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the elements before and after places along an axis, and their weights, 0 far outside."""
    outside = (places < -1) | (places > size)
    places = places.clamp(0, size - 1)
    before = places.floor()
    after_weight = torch.where(outside, 0, places - before)
    before_weight = torch.where(outside, 0, 1 - (places - before))
    index = before.long()
    return index, (index + 1).clamp(max=size - 1), before_weight, after_weight


def roi_align(
    x: Tensor, regions: Tensor, *, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    """Average bilinear samples in the bins of regions.

    Shape:
        x: (n, channels, h, w)
        regions: (count, 5), the index of the image, and the corners; a negative index gives zeros.
        output: (count, channels, *size)
    """
    parts = [
        roi_align_part(x, part, size=size, scale=scale, samples=samples, aligned=aligned)
        for part in torch.split(regions, 16)  # which bounds the memory
    ]
    return torch.cat(parts)


def roi_align_part(
    x: Tensor, regions: Tensor, *, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    """Average bilinear samples in the bins of a few regions."""
    height, width = size
    corners = regions[:, 1:] * scale - (0.5 if aligned else 0)
    left, top, right, bottom = corners.unbind(1)
    least = -torch.inf if aligned else 1.0
    bin_width, bin_height = (right - left).clamp(min=least) / width, (bottom - top).clamp(min=least) / height
    rows, row_weights = sample_places(top, bin_height, height, samples)
    columns, column_weights = sample_places(left, bin_width, width, samples)
    above, below, above_weight, below_weight = edge_weights(rows, x.shape[2])
    before, after, before_weight, after_weight = edge_weights(columns, x.shape[3])
    image = regions[:, 0].long().clamp(min=0)[:, None, None]
    maps = x.permute(0, 2, 3, 1)
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for row, row_weight in ((above, above_weight), (below, below_weight)):
        for column, column_weight in ((before, before_weight), (after, after_weight)):
            weight = (row_weight * row_weights)[:, :, None] * (column_weight * column_weights)[:, None]
            total = total + maps[image, row[:, :, None], column[:, None]] * weight.unsqueeze(-1)
    bins = total.reshape(len(regions), height, -1, width, columns.shape[1] // width, x.shape[1]).sum((2, 4))
    return torch.where((regions[:, 0] < 0)[:, None, None, None], 0, bins.permute(0, 3, 1, 2))


def roi_pool(x: Tensor, regions: Tensor, *, size: tuple[int, int], scale: float) -> Tensor:
    """Return the maxima in the bins of regions, 0 in an empty one.

    Shape:
        x: (n, channels, h, w)
        regions: (count, 5), the index of the image, and the corners.
        output: (count, channels, *size)
    """
    scaled = regions[:, 1:] * scale
    corners = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
    rows = bin_masks(corners[:, 1], corners[:, 3], size[0], x.shape[2])
    columns = bin_masks(corners[:, 0], corners[:, 2], size[1], x.shape[3])
    pooled = []
    for number in range(len(regions)):
        image = x.index_select(0, regions[number : number + 1, 0].long())
        tall = torch.where(rows[number][:, None, :, None], image, -torch.inf).amax(2)
        bins = torch.where(columns[number][:, None, None], tall, -torch.inf).amax(-1)
        pooled.append(bins.permute(2, 1, 0))
    result = torch.stack(pooled)
    return torch.where(result == -torch.inf, 0, result)


def bin_masks(begin: Tensor, end: Tensor, count: int, size: int) -> Tensor:
    """Return which elements of an axis are in which bin, as (regions, count, size)."""
    width = (end - begin + 1).clamp(min=1) / count
    numbers = torch.arange(count, dtype=begin.dtype, device=begin.device)
    first = (numbers * width[:, None]).floor() + begin[:, None]
    last = ((numbers + 1) * width[:, None]).ceil() + begin[:, None]
    places = torch.arange(size, dtype=begin.dtype, device=begin.device)
    return (places >= first[..., None]) & (places < last[..., None])


def deformable_convolution(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    """Convolve bilinear samples at the places of the kernel plus an offset.

    With a mask (version 2), the image continues as zeros. Without (version 1), a sample beyond its first
    row or column is 0, and one beyond the last is that of the last.

    Shape:
        x: (n, channels, h, w)
        offset: (n, offset_groups * kernel * 2, h', w'), first along the rows, then along the columns.
        mask: (n, offset_groups * kernel, h', w')
        output: (n, filters, h', w')
    """
    rows, columns = offset.shape[2:]
    kernel = weight.shape[2] * weight.shape[3]
    shifts = offset.reshape(len(x), offset_groups, kernel, 2, rows, columns)
    y = torch.arange(rows, dtype=x.dtype, device=x.device)[:, None] * stride[0] - padding[0]
    z = torch.arange(columns, dtype=x.dtype, device=x.device) * stride[1] - padding[1]
    parts = []
    for place in range(kernel):
        row = y + place // weight.shape[3] * dilation[0] + shifts[:, :, place, 0]
        column = z + place % weight.shape[3] * dilation[1] + shifts[:, :, place, 1]
        part = sample_plane(x, row, column, clamped=mask is None)
        if mask is not None:
            part = part * mask.reshape(len(x), offset_groups, kernel, 1, rows, columns)[:, :, place]
        parts.append(part.flatten(1, 2))
    samples = torch.stack(parts, 2).flatten(1, 2)  # (n, channels * kernel, h', w')
    return F.conv2d(samples, weight.reshape(len(weight), -1, 1, 1), bias, groups=groups)


def sample_plane(x: Tensor, row: Tensor, column: Tensor, *, clamped: bool) -> Tensor:
    """Return bilinear samples of (n, channels, h, w).

    Args:
        x: its channels are divided into as many groups as the places have.
        row: (n, groups, h', w')
        column: (n, groups, h', w')
        clamped: whether places beyond the last element take that element.

    Shape:
        output: (n, groups, channels / groups, h', w')
    """
    height, width = x.shape[2:]
    inside = torch.ones_like(row, dtype=torch.bool)
    if clamped:
        inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    top, left = row.floor(), column.floor()
    flat = x.reshape(len(x), row.shape[1], -1, height * width)
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for at_row, row_weight in ((top, 1 - (row - top)), (top + 1, row - top)):
        for at_column, column_weight in ((left, 1 - (column - left)), (left + 1, column - left)):
            valid = inside & (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
            index = at_row.clamp(0, height - 1) * width + at_column.clamp(0, width - 1)
            index = index.long().flatten(2).unsqueeze(2).expand(-1, -1, flat.shape[2], -1)
            values = flat.gather(3, index).reshape(*flat.shape[:3], *row.shape[2:])
            total = total + values * torch.where(valid, row_weight * column_weight, 0).unsqueeze(2)
    return total
