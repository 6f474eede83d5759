"""Padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_mask(x: Tensor, lengths: Tensor, *, value: float, axis: int) -> Tensor:
    """Replace what follows the end of each sequence; steps are along ``axis``, sequences along the other."""
    steps = torch.arange(x.shape[axis], device=x.device)
    ends = lengths.long()
    ended = steps[:, None] >= ends if axis == 0 else steps >= ends[:, None]
    return x.masked_fill(ended.reshape(*ended.shape, *[1] * (x.dim() - 2)), value)


def sequence_last(x: Tensor, lengths: Tensor, *, axis: int) -> Tensor:
    """Return the last step of each sequence."""
    steps = x if axis == 0 else x.transpose(0, 1)
    return steps[lengths.long() - 1, torch.arange(steps.shape[1], device=x.device)]


def sequence_reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of (steps, n, ...), and leave what follows its end."""
    steps = torch.arange(len(x), device=x.device)[:, None]
    ends = lengths.long()
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    return x[places, torch.arange(x.shape[1], device=x.device)]
