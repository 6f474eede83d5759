"""Lookups with MXNet's rules for indices."""

from __future__ import annotations

import torch
from torch import Tensor


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Select elements of two tensors, or rows if the condition has one axis."""
    if condition.dim() == 1:
        condition = condition.reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(condition != 0, x, y)


def take(x: Tensor, index: Tensor, *, axis: int, wrap: bool) -> Tensor:
    """Return the elements at indices that are truncated and then limited, or wrapped, to the axis."""
    axis = axis % x.dim()
    size = x.shape[axis]
    whole = index.long()
    whole = whole % size if wrap else whole.clamp(0, size - 1)
    taken = x.index_select(axis, whole.flatten())
    return taken.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def pick(x: Tensor, index: Tensor, *, axis: int, keepdims: bool, wrap: bool) -> Tensor:
    """Return one element of each vector along an axis, at indices as in ``take``."""
    size = x.shape[axis]
    whole = index.long()
    whole = whole % size if wrap else whole.clamp(0, size - 1)
    shape = list(x.shape)
    shape[axis] = 1
    chosen = x.gather(axis, whole.reshape(shape))
    return chosen if keepdims else chosen.squeeze(axis)


def slice_backwards(x: Tensor, ranges: list[tuple[int | None, int | None, int]]) -> Tensor:
    """Return a part of a tensor; a step, unlike PyTorch's, may be negative."""
    for axis, (begin, end, step) in enumerate(ranges):
        places = range(x.shape[axis])[begin:end:step]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def center_crop(x: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of (n, channels, h, w)."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def expand_axes(x: Tensor, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    """Repeat axes of size 1."""
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return x.expand(shape)
