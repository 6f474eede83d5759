"""Backbones: networks that return the levels of their feature pyramid instead of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import Level
    from .resnext import ResNeXt


class Features(nn.Module):
    """A network that returns feature maps.

    Level 0 is the output of the stem before its pool; the outputs of the stages follow. ``feature_info``
    lists the layer, channels and reduction of each selected level.

    Args:
        model: the network, which loses its head.
        out_indices: the levels to return, by default all.

    Shape:
        (n, in_chans, h, w) → for each level (n, channels, ⌈h / reduction⌉, ⌈w / reduction⌉)

    Raises:
        IndexError: if a level does not exist.
    """

    def __init__(self, model: ResNeXt, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        levels = model.config.levels
        indices = range(len(levels)) if out_indices is None else out_indices
        self.levels: tuple[Level, ...] = tuple(levels[index] for index in indices)
        self.out_indices = tuple(index % len(levels) for index in indices)
        model.fc = nn.Identity()
        self.model = model

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The description of the network and its input, under timm's keys."""
        return self.model.pretrained_cfg

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The older name of ``pretrained_cfg``."""
        return self.model.pretrained_cfg

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The levels under timm's keys: ``num_chs``, ``reduction``, ``module``."""
        return [self.model.feature_info[index] for index in self.out_indices]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps, in the order of ``out_indices``."""
        levels = list(self.model.forward_levels(x))
        return [levels[index] for index in self.out_indices]
