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
