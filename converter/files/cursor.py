"""A place in a file, and the promise that nothing is taken that is not there."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from converter.files import disk
from converter.files.stored import Stored

if TYPE_CHECKING:
    import numpy as np

    from converter.errors import ConversionError
    from converter.files.stored import Storage

MAX_DIMENSIONS = 32  # of an array


class Cursor:
    """Steps through a file; every error it makes names the file and the byte."""

    def __init__(self, storage: Storage, stream: BinaryIO, offset: int = 0) -> None:
        self.storage = storage
        self.stream = stream
        self.offset = offset

    def at(self, offset: int) -> Cursor:
        """Return another at another place of the same file."""
        return Cursor(self.storage, self.stream, offset)

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self.storage.size - self.offset

    def error(self, message: str, at: int | None = None) -> ConversionError:
        """Return an error of the file's kind at a byte, which is the next one unless another is named."""
        place = self.offset if at is None else at
        return self.storage.error(f"{self.storage.name}: byte {place}: {message}")

    def skip(self, size: int, what: str) -> int:
        """Step over ``size`` bytes and return where they begin.

        Errors: the file's where there are fewer.
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
        return struct.unpack(layout, self.bytes(struct.calcsize(layout), what))

    def bytes(self, size: int, what: str) -> bytes:
        """Return the bytes that stand next.

        Errors: as of ``skip``.
        """
        begin = self.skip(size, what)
        self.stream.seek(begin)
        found = self.stream.read(size)
        if len(found) != size:
            raise self.storage.error(f"{self.storage.name}: {disk.CHANGED}")
        return found

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> Stored:
        """Return the array that stands next, its numbers not read.

        Errors: as of ``skip``.
        """
        begin = self.skip(math.prod(shape) * dtype.itemsize, f"{what}, {dtype} {shape},")
        return Stored(self.storage, begin, dtype, shape)
