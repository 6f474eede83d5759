"""The types of an artifact's weights: as they came, or all in one, and what a narrower one costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.choices import Precision
from converter.dtypes import BFLOAT16, FLOATS
from converter.errors import PrecisionError
from converter.proof import tensors

if TYPE_CHECKING:
    from converter.dtypes import Array


DTYPES = {
    Precision.float32: np.dtype(np.float32),
    Precision.float16: np.dtype(np.float16),
    Precision.bfloat16: BFLOAT16,
}


def cast(state: dict[str, Array], precision: Precision) -> dict[str, Array]:
    """Return the arrays with all floats in one type, rounded to nearest; what is of that type is not copied.

    A float64 becomes a bfloat16 by way of float32, as in torch.
    Errors: ``PrecisionError`` with every array that has a value beyond the type's range.
    """
    if precision is Precision.keep:
        return state
    dtype = DTYPES[precision]
    with np.errstate(over="ignore"):  # what overflows is refused below
        narrow = {
            name: array.astype(dtype, copy=False) if array.dtype in FLOATS else array
            for name, array in state.items()
        }
    beyond = [name for name, array in narrow.items() if array.dtype == dtype and not np.isfinite(array).all()]
    if beyond:
        headline = f"these have values that {precision} cannot hold"
        raise PrecisionError("\n  ".join([headline, *names.shorten(names.collapse(beyond))]))
    return narrow


def lossless(state: dict[str, Array], other: dict[str, Array]) -> bool:
    """Return whether every number is the same on both sides, be it in another type."""
    return all(
        array is other[name] or tensors.same_values(array, other[name]) for name, array in state.items()
    )


def widened(array: Array) -> Array:
    """Return an array in a type that MXNet can compute in on a CPU: the narrow ones in float32, exactly."""
    return array.astype(np.float32) if array.dtype in {np.dtype(np.float16), BFLOAT16} else array
