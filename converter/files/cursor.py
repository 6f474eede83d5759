"""A place in a file that is in memory, and the promise that nothing is taken that is not there."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ParamsError

if TYPE_CHECKING:
    from converter.dtypes import Array

MAX_DIMENSIONS = 32  # of an array


class Cursor:
    """Steps through a file; every error it makes names the file and the byte."""

    def __init__(self, memory: memoryview, file: str, offset: int = 0) -> None:
        self.memory = memory
        self.file = file
        self.offset = offset

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self.memory) - self.offset

    def error(self, message: str, at: int | None = None) -> ParamsError:
        """Return an error at a byte, which is the next one unless another is named."""
        return ParamsError(f"{self.file}: byte {self.offset if at is None else at}: {message}")

    def skip(self, size: int, what: str) -> int:
        """Step over ``size`` bytes and return where they begin.

        Errors: ``ParamsError`` where there are fewer.
        """
        if size > self.remaining:
            raise self.error(f"{what} needs {size} bytes, {self.remaining} are left; is the file truncated?")
        begin = self.offset
        self.offset += size
        return begin

    def take(self, layout: str, what: str) -> tuple[int, ...]:
        """Return the numbers that stand next, laid out as ``struct`` names it.

        Errors: as of ``skip``.
        """
        begin = self.skip(struct.calcsize(layout), what)
        return struct.unpack_from(layout, self.memory, begin)

    def bytes(self, size: int, what: str) -> bytes:
        """Return the bytes that stand next.

        Errors: as of ``skip``.
        """
        begin = self.skip(size, what)
        return bytes(self.memory[begin : self.offset])

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> Array:
        """Return the array that stands next: a read-only view of the file.

        Errors: as of ``skip``.
        """
        size = math.prod(shape)
        begin = self.skip(size * dtype.itemsize, f"{what}, {dtype} {shape},")
        array: Array = np.frombuffer(self.memory, dtype, size, begin)
        return array.reshape(shape)
