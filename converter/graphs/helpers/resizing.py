"""Resizing with MXNet's sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name
from torch import Tensor


def upsample(scale: int, *maps: Tensor) -> list[Tensor]:
    """Repeat the elements of feature maps, up to the first one's size times a scale."""
    height = maps[0].shape[2] * scale
    return [F.interpolate(x, scale_factor=height // x.shape[2]) for x in maps]


def resize(x: Tensor, *, mode: str, scales: tuple[float, float] = (1, 1)) -> Tensor:
    """Resize (n, channels, h, w) bilinearly to a size that depends on its own."""
    sizes = []
    for size, scale in zip(x.shape[2:], scales, strict=True):
        if mode in ("size", "odd_scale"):
            odd = size % 2 if mode == "odd_scale" else 0
            product = torch.tensor(float(size - odd)) * scale  # in float32, as in MXNet
            sizes.append(int(product) + odd)
        elif size % 2 == ("odd" in mode):
            sizes.append(size)
        else:
            sizes.append(size + 1 if mode.endswith("up") else size - 1)
    return F.interpolate(x, size=sizes, mode="bilinear", align_corners=True)


def deconvolve_to(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Apply a transposed convolution whose output has a given height and width."""
    sizes = zip(x.shape[2:], weight.shape[2:], stride, dilation, size, strict=True)
    spare = [
        jump * (length - 1) + step * (width - 1) + 1 - wanted for length, width, jump, step, wanted in sizes
    ]
    padding, added = [(each + 1) // 2 for each in spare], [each % 2 for each in spare]
    return F.conv_transpose2d(x, weight, bias, stride, padding, added, groups, dilation)
