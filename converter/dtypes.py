"""Element types of arrays, with their identifiers in MXNet and safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)  # the upper half of a float32; not in numpy itself


@dataclass(frozen=True, slots=True)
class ElementType:
    """An element type.

    Attributes:
        dtype: the type in numpy.
        mxnet: its number in MXNet's files.
        safetensors: its name in safetensors' headers.
    """

    dtype: np.dtype[Any]
    mxnet: int
    safetensors: str


# In the order in which safetensors stores types, which aligns every array.
# Sources: 3rdparty/mshadow/mshadow/base.h, apache/mxnet 1.9.1 and 2.0; safetensors/src/tensor.rs, 0.8.
ELEMENT_TYPES = (
    ElementType(np.dtype("<u8"), 11, "U64"),
    ElementType(np.dtype("<i8"), 6, "I64"),
    ElementType(np.dtype("<f8"), 1, "F64"),
    ElementType(np.dtype("<f4"), 0, "F32"),
    ElementType(np.dtype("<u4"), 10, "U32"),
    ElementType(np.dtype("<i4"), 4, "I32"),
    ElementType(BFLOAT16, 12, "BF16"),
    ElementType(np.dtype("<f2"), 2, "F16"),
    ElementType(np.dtype("<u2"), 9, "U16"),
    ElementType(np.dtype("<i2"), 8, "I16"),
    ElementType(np.dtype("i1"), 5, "I8"),
    ElementType(np.dtype("u1"), 3, "U8"),
    ElementType(np.dtype("?"), 7, "BOOL"),
)
BY_MXNET = {kind.mxnet: kind.dtype for kind in ELEMENT_TYPES}
TO_MXNET = {kind.dtype: kind.mxnet for kind in ELEMENT_TYPES}
BY_SAFETENSORS = {kind.safetensors: kind.dtype for kind in ELEMENT_TYPES}
TO_SAFETENSORS = {kind.dtype: kind.safetensors for kind in ELEMENT_TYPES}
FLOATS = (np.dtype("<f8"), np.dtype("<f4"), np.dtype("<f2"), BFLOAT16)
