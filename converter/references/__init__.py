"""Forwards of the source parameters that share no code with ``resnext_torch``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.graph import Settings


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """What one layer gave: its name in Gluon, its output, and how it was set."""

    layer: str
    array: Array
    settings: Settings
