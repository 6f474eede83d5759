"""Places of an image's elements, from -1 to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name
from torch import Tensor


def affine_grid(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the places (n, 2, h, w) after affine maps (n, 6)."""
    grid = F.affine_grid(maps.reshape(-1, 2, 3), [len(maps), 1, *shape], align_corners=True)
    return grid.permute(0, 3, 1, 2)


def warp_grid(shift: Tensor) -> Tensor:
    """Return the places (n, 2, h, w) after a shift in elements."""
    height, width = shift.shape[2:]
    x = torch.arange(width, dtype=shift.dtype, device=shift.device)
    y = torch.arange(height, dtype=shift.dtype, device=shift.device)[:, None]
    columns = (x + shift[:, 0]) / ((width - 1) / 2) - 1
    rows = (y + shift[:, 1]) / ((height - 1) / 2) - 1
    return torch.stack([columns, rows], 1)
