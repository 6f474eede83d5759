"""Compare two arrays of one name bit by bit, and measure their difference."""

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
    """The difference between two arrays.

    Attributes:
        name: the name of both.
        shapes: the shape of each.
        dtypes: the type of each.
        count: the number of elements that differ: in their bits if the types are equal, else in their
            values. None if the shapes differ.
        size: the number of elements of the first array.
        max_abs: the largest absolute difference. None if the shapes differ or if it is not finite.
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    count: int | None
    size: int
    max_abs: float | None

    def __str__(self) -> str:
        if self.count is None:
            return f"shape {self.shapes[0]} vs {self.shapes[1]}"
        types = f"{self.dtypes[0]} vs {self.dtypes[1]}, " if self.dtypes[0] != self.dtypes[1] else ""
        if not self.count:
            return f"{types}equal values"
        largest = "some not finite" if self.max_abs is None else f"by up to {self.max_abs:.1e}"
        in_bits = "but are equal in float64" if self.max_abs == 0 else largest
        return f"{types}{self.count} of {self.size} elements differ, {in_bits}"


def compare(name: str, one: AnyArray, other: AnyArray) -> TensorDiff | None:
    """Return the difference between two arrays, or None if type, shape and every bit are equal."""
    if one.shape == other.shape and one.dtype == other.dtype and _are_equal_files(one, other):
        return None
    shapes = one.shape, other.shape
    if one.shape != other.shape:
        return TensorDiff(name, shapes, (str(one.dtype), str(other.dtype)), None, one.size, None)
    same_type = one.dtype == other.dtype
    one, other = np.asarray(one).reshape(-1), np.asarray(other).reshape(-1)
    if same_type and np.array_equal(_bits(one), _bits(other)):
        return None
    dtypes = str(one.dtype), str(other.dtype)
    differs = (_bits(one) != _bits(other)).any(axis=1) if same_type else ~_equal(_wide(one), _wide(other))
    distances = _distances(_wide(one[differs]), _wide(other[differs]))
    return TensorDiff(name, shapes, dtypes, len(distances), one.size, _largest(distances))


def _are_equal_files(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays of one type and shape are both in files and have equal bytes.

    The files are compared piece by piece, so that large arrays take no memory.
    """
    if not (isinstance(one, FileArray) and isinstance(other, FileArray) and one.fortran == other.fortran):
        return False
    return all(
        one.storage.read(one.offset + begin, size) == other.storage.read(other.offset + begin, size)
        for begin in range(0, one.nbytes, PIECE)
        for size in [min(PIECE, one.nbytes - begin)]
    )


def same_values(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays have equal values, even if in different types."""
    diff = compare("", one, other)
    return diff is None or diff.count == 0


def _bits(array: Array) -> Array:
    """Return an array's bits as unsigned integers.

    Shape:
        (elements, words per element)
    """
    word = min(array.dtype.itemsize, WORD_BYTES)
    return np.ascontiguousarray(array).view(f"u{word}").reshape(array.size, array.dtype.itemsize // word)


def _wide(array: Array) -> Array:
    """Return an array in a wider type, because numpy does not combine float16 with bfloat16."""
    return array.astype(np.result_type(array, np.float64))


def _equal(one: Array, other: Array) -> Array:
    """Compare values element by element; NaN equals NaN."""
    equal: Array = (one == other) | (np.isnan(one) & np.isnan(other))
    return equal


def _distances(one: Array, other: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
        distances: Array = np.abs(np.subtract(one, other))
    return distances


def _largest(distances: Array) -> float | None:
    largest = float(distances.max(initial=0))
    return largest if math.isfinite(largest) else None
