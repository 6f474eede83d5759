"""Generate probes: seeded random inputs on which two networks are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from converter.dtypes import Array


@dataclass(frozen=True, slots=True)
class Probe:
    """A seeded random input of shape (1, channels, h, w), standard normal.

    Attributes:
        dtype: the name of the dtype.
        size: height and width in pixels.
        seed: the seed.
        channels: the channels.
    """

    dtype: str
    size: tuple[int, int]
    seed: int = 0
    channels: int = 3

    def __str__(self) -> str:
        return f"{self.dtype} at {self.label}"

    @property
    def label(self) -> str:
        """The size as text, such as 224x224: height x width."""
        return f"{self.size[0]}x{self.size[1]}"

    def input(self) -> Array:
        """Return the array; the values are the same in every dtype, but for rounding."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return generator.standard_normal((1, self.channels, *self.size)).astype(self.dtype)
