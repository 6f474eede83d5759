"""Convert weights to another floating-point type, and check whether that is lossless."""

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
    """Return the arrays with all floats in one type, rounded to nearest; others are returned unchanged.

    A float64 becomes a bfloat16 by way of float32, as in torch.

    Raises:
        PrecisionError: if values are beyond the range of the type; lists all arrays with such values.
    """
    if precision is Precision.keep:
        return state
    dtype = DTYPES[precision]
    with np.errstate(over="ignore"):  # overflow is refused below
        rounded = {
            name: np.asarray(array).astype(dtype)
            for name, array in state.items()
            if array.dtype in FLOATS and array.dtype != dtype
        }
    overflows = [name for name, array in rounded.items() if not np.isfinite(array).all()]
    if overflows:
        headline = f"these tensors have values outside the range of {precision}"
        raise PrecisionError("\n  ".join([headline, *names.shorten(names.collapse(overflows))]))
    return {**state, **rounded}


def lossless(state: Arrays, other: Arrays) -> bool:
    """Return whether all values are equal, even if in different types."""
    return all(
        array is other[name] or array_comparison.same_values(array, other[name])
        for name, array in state.items()
    )


def widen(array: AnyArray) -> AnyArray:
    """Return an array in a type that MXNet supports on a CPU: float16 and bfloat16 become float32."""
    return np.asarray(array).astype(np.float32) if array.dtype in {np.dtype(np.float16), BFLOAT16} else array
