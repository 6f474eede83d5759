"""Two arrays of one name: the same bits, or how far apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.formats.file_arrays import PIECE, FileArray

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray


WORD_BYTES = 8  # numpy has no wider integers


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """How two arrays differ. ``count`` elements do, by at most ``max_abs``; both None where shapes differ.

    Elements are counted by their bits where the types are the same, else by their values. ``max_abs`` is None
    too where it would not be finite.
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
        largest = "not all finite" if self.max_abs is None else f"by up to {self.max_abs:.1e}"
        in_bits = "in bits that a float64 does not show" if self.max_abs == 0 else largest
        return f"{types}{self.count} of {self.size} elements differ, {in_bits}"


def compare(name: str, one: AnyArray, other: AnyArray) -> TensorDiff | None:
    """Return how two arrays differ, or None where type, shape and every bit are the same."""
    if one.shape == other.shape and one.dtype == other.dtype and _are_equal_files(one, other):
        return None
    shapes, dtypes = (one.shape, other.shape), (str(one.dtype), str(other.dtype))
    if one.shape != other.shape:
        return TensorDiff(name, shapes, dtypes, None, one.size, None)
    same_type = one.dtype == other.dtype
    one, other = np.asarray(one).reshape(-1), np.asarray(other).reshape(-1)
    if same_type and np.array_equal(_bits(one), _bits(other)):
        return None
    differs = (_bits(one) != _bits(other)).any(axis=1) if same_type else ~_equal(_wide(one), _wide(other))
    apart = _apart(_wide(one[differs]), _wide(other[differs]))
    return TensorDiff(name, shapes, dtypes, len(apart), one.size, _largest(apart))


def _are_equal_files(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays of one type and shape are both in files, with the same bytes.

    They are compared piece by piece, so that large arrays take no memory.
    """
    if not (isinstance(one, FileArray) and isinstance(other, FileArray) and one.fortran == other.fortran):
        return False
    return all(
        one.storage.read(one.offset + begin, size) == other.storage.read(other.offset + begin, size)
        for begin in range(0, one.nbytes, PIECE)
        for size in [min(PIECE, one.nbytes - begin)]
    )


def same_values(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays are the same, be it in different precisions."""
    apart = compare("", one, other)
    return apart is None or apart.count == 0


def _bits(array: Array) -> Array:
    """Return an array's bits, a row for each element: (elements, words)."""
    word = min(array.dtype.itemsize, WORD_BYTES)
    return np.ascontiguousarray(array).view(f"u{word}").reshape(array.size, array.dtype.itemsize // word)


def _wide(array: Array) -> Array:
    """Return an array in a type that goes with every other: float16 and bfloat16 do not with each other."""
    return array.astype(np.result_type(array, np.float64))


def _equal(one: Array, other: Array) -> Array:
    """Return where the values are the same; here NaN is."""
    equal: Array = (one == other) | (np.isnan(one) & np.isnan(other))
    return equal


def _apart(one: Array, other: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        apart: Array = np.abs(np.subtract(one, other))
    return apart


def _largest(apart: Array) -> float | None:
    largest = float(apart.max(initial=0))
    return largest if math.isfinite(largest) else None
