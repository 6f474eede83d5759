"""The part of a manifest that describes the images that a network expects."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class PreprocessingRecord(Struct, frozen=True, kw_only=True):
    """The normalization of images that was exported with the network, and is not part of the artifact.

    Attributes:
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
    """

    mean: Annotated[tuple[float, ...], Meta(min_length=1)]
    std: Annotated[tuple[float, ...], Meta(min_length=1)]
