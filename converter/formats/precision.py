"""The types of an artifact's weights: as they came, or all in one, and what a narrower one costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from converter import names
from converter.choices import Precision
from converter.dtypes import BFLOAT16, FLOATS
from converter.errors import PrecisionError
from converter.formats import array_comparison

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays

A = TypeVar("A", bound="AnyArray")


DTYPES = {
    Precision.float32: np.dtype(np.float32),
    Precision.float16: np.dtype(np.float16),
    Precision.bfloat16: BFLOAT16,
}


def cast(state: Mapping[str, A], precision: Precision) -> Mapping[str, A | Array]:
    """Return the arrays with all floats in one type, rounded to nearest; what is of that type stays as it is.

    A float64 becomes a bfloat16 by way of float32, as in torch.
    Errors: ``PrecisionError`` with every array that has a value beyond the type's range.
    """
    if precision is Precision.keep:
        return state
    dtype = DTYPES[precision]
    with np.errstate(over="ignore"):  # what overflows is refused below
        narrow = {
            name: np.asarray(array).astype(dtype)
            for name, array in state.items()
            if array.dtype in FLOATS and array.dtype != dtype
        }
    beyond = [name for name, array in narrow.items() if not np.isfinite(array).all()]
    if beyond:
        headline = f"these have values that {precision} cannot hold"
        raise PrecisionError("\n  ".join([headline, *names.shorten(names.collapse(beyond))]))
    return {**state, **narrow}


def lossless(state: Arrays, other: Arrays) -> bool:
    """Return whether every number is the same on both sides, be it in another type."""
    return all(
        array is other[name] or array_comparison.same_values(array, other[name])
        for name, array in state.items()
    )


def widened(array: AnyArray) -> AnyArray:
    """Return an array in a type that MXNet can compute in on a CPU: the narrow ones in float32, exactly."""
    return np.asarray(array).astype(np.float32) if array.dtype in {np.dtype(np.float16), BFLOAT16} else array
