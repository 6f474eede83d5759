"""A network as a backbone: the features of its pyramid's levels in place of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import Level
    from .resnext import ResNeXt


class Features(nn.Module):
    """The levels of ``out_indices``, all without: 0 is the stem before its pool, then come the stages.

    ``feature_info`` lists of each its layer, channels and reduction. Shapes: (n, in_chans, h, w) → of each
    level (n, channels, ⌈h / reduction⌉, ⌈w / reduction⌉).
    Errors: ``IndexError`` for a level that there is not.
    """

    def __init__(self, model: ResNeXt, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        levels = model.config.levels
        chosen = range(len(levels)) if out_indices is None else out_indices
        self.levels: tuple[Level, ...] = tuple(levels[index] for index in chosen)
        self.out_indices = tuple(index % len(levels) for index in chosen)
        model.fc = nn.Identity()
        self.model = model

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What timm calls them: ``num_chs``, ``reduction``, ``module``."""
        return [
            {"num_chs": level.channels, "reduction": level.reduction, "module": level.module}
            for level in self.levels
        ]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features, in the order of ``out_indices``."""
        levels = list(self.model.forward_levels(x))
        return [levels[index] for index in self.out_indices]
