"""Reference forward passes of the source parameters, which share no code with ``resnext_torch``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.graph import Settings

ReferenceName = Literal["gluon", "numpy", "none"]


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """The Gluon name, output and hyper-parameters of a layer."""

    layer: str
    array: Array
    settings: Settings
