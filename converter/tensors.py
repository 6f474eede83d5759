"""Two arrays of one name: the same bits, or how far apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from converter.params import Array


@dataclass(frozen=True, slots=True)
class Apart:
    """How two arrays differ. ``count`` elements do, by at most ``max_abs``; None where shapes differ.

    Elements are counted by their bits where the types are the same, else by their values.
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    count: int | None
    size: int
    max_abs: float | None

    def __str__(self) -> str:
        if self.count is None:
            return f"shape {self.shapes[0]} and {self.shapes[1]}"
        types = f"{self.dtypes[0]} and {self.dtypes[1]}, " if self.dtypes[0] != self.dtypes[1] else ""
        if not self.count:
            return f"{types}the same values"
        return f"{types}{self.count} of {self.size} elements differ, by up to {self.max_abs:.1e}"


def compare(name: str, one: Array, other: Array) -> Apart | None:
    """Return how two arrays differ, or None where type, shape and every bit are the same."""
    shapes, dtypes = (one.shape, other.shape), (str(one.dtype), str(other.dtype))
    if one.shape != other.shape:
        return Apart(name, shapes, dtypes, None, one.size, None)
    same_type = one.dtype == other.dtype
    if same_type and np.array_equal(_bits(one), _bits(other)):
        return None
    with np.errstate(invalid="ignore"):  # infinity less infinity
        apart = np.abs(np.subtract(one, other, dtype=np.float64))
    differs = _bits(one) != _bits(other) if same_type else ~(apart == 0)
    return Apart(name, shapes, dtypes, int(differs.sum()), one.size, float(apart.max(initial=0)))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
