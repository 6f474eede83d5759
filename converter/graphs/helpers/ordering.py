"""Sorting and ranges with MXNet's arguments."""

from __future__ import annotations

import torch
from torch import Tensor


def top(x: Tensor, count: int, axis: int, *, largest: bool, whole: bool) -> tuple[Tensor, Tensor]:
    """Return the first elements in sorted order along an axis, all if ``count`` is 0, and their places.

    The places are whole numbers, or have the type of the elements, at least float32.
    """
    values, places = x.sort(dim=axis, descending=largest, stable=True)
    count = count or x.shape[axis]
    places = places.narrow(axis, 0, count)
    if not whole:
        places = places.to(torch.promote_types(x.dtype, torch.float32))
    return values.narrow(axis, 0, count), places


def arange_like(x: Tensor, *, start: float, step: float, repeat: int, axis: int | None) -> Tensor:
    """Return a range with as many elements as a tensor, in its shape, or as one of its axes."""
    count = x.numel() if axis is None else x.shape[axis]
    numbers = torch.arange(count, device=x.device) // repeat
    values = numbers.to(x.dtype) * step + start
    return values.view_as(x) if axis is None else values
