"""Global pools under timm's names: what a head is applied to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


class AverageMaxPool(nn.Module):
    """Average the mean and the maximum of each channel.

    Shape:
        (n, c, h, w) → (n, c, 1, 1)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled channels."""
        return (functional.adaptive_avg_pool2d(x, 1) + functional.adaptive_max_pool2d(x, 1)) / 2


class ConcatenatedPool(nn.Module):
    """Concatenate the means and the maxima of the channels.

    Shape:
        (n, c, h, w) → (n, 2 * c, 1, 1)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled channels."""
        return torch.cat((functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)), dim=1)


GLOBAL_POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AdaptiveAvgPool2d(1),
    "max": lambda: nn.AdaptiveMaxPool2d(1),
    "avgmax": AverageMaxPool,
    "catavgmax": ConcatenatedPool,
    "": nn.Identity,
}
