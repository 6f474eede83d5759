"""Pools whose last window may lie wholly in the padding, which PyTorch's ``ceil_mode`` leaves out."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name
from torch import Tensor


def window_sizes(
    size: int, kernel: int, stride: int, padding: int, *, include_pad: bool
) -> tuple[int, Tensor]:
    """Return the padding that complete windows need, and the number of elements of each window."""
    count = -(-(size + 2 * padding - kernel) // stride) + 1
    begin = torch.arange(count) * stride - padding
    end = (begin + kernel).clamp(max=size + padding)
    elements = end - begin if include_pad else end.clamp(max=size) - begin.clamp(min=0)
    return max(0, (count - 1) * stride + kernel - size - padding), elements


def max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Pool (n, channels, h, w); a window in the padding has the least finite number."""
    height, width = (
        window_sizes(*each, include_pad=True)[0]
        for each in zip(x.shape[2:], kernel, stride, padding, strict=True)
    )
    x = F.pad(x, (padding[1], width, padding[0], height), value=torch.finfo(x.dtype).min)
    return F.max_pool2d(x, kernel, stride)


def sum_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Pool (n, channels, h, w)."""
    height, width = (
        window_sizes(*each, include_pad=True)[0]
        for each in zip(x.shape[2:], kernel, stride, padding, strict=True)
    )
    x = F.pad(x, (padding[1], width, padding[0], height))
    return F.avg_pool2d(x, kernel, stride, divisor_override=1)


def avg_pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    count_include_pad: bool,
) -> Tensor:
    """Pool (n, channels, h, w); a window in the padding has the average 0."""
    rows, columns = (
        window_sizes(*each, include_pad=count_include_pad)[1]
        for each in zip(x.shape[2:], kernel, stride, padding, strict=True)
    )
    elements = (rows[:, None] * columns).to(x)
    return sum_pool(x, kernel, stride, padding) / torch.where(elements == 0, 1, elements)
