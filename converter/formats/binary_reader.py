"""A place in a file, and the promise that nothing is taken that is not there."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from converter.formats.file_arrays import FileArray
from converter.storage import disk

if TYPE_CHECKING:
    import numpy as np

    from converter.errors import ConversionError
    from converter.formats.file_arrays import SourceFile

MAX_DIMENSIONS = 32  # of an array
WINDOW_BYTES = 1 << 12  # read at once: headers of small arrays are close to each other


class BinaryReader:
    """Steps through a file; every error it makes names the file and the byte."""

    def __init__(self, storage: SourceFile, stream: BinaryIO, offset: int = 0) -> None:
        self.storage = storage
        self.stream = stream
        self.offset = offset
        self._window, self._begin = b"", 0  # the bytes read last, and where they begin

    def at(self, offset: int) -> BinaryReader:
        """Return another at another place of the same file."""
        return BinaryReader(self.storage, self.stream, offset)

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
        size, place = struct.calcsize(layout), self.offset - self._begin
        if not 0 <= place <= len(self._window) - size:
            return struct.unpack(layout, self.bytes(size, what))
        self.offset += size
        return struct.unpack_from(layout, self._window, place)

    def peek(self, layout: str, ahead: int = 0) -> tuple[int, ...] | None:
        """Return the numbers ``ahead`` bytes further on, None if they are not among the bytes read last."""
        place = self.offset - self._begin + ahead
        if not 0 <= place <= len(self._window) - struct.calcsize(layout):
            return None
        return struct.unpack_from(layout, self._window, place)

    def bytes(self, size: int, what: str) -> bytes:
        """Return the bytes that stand next.

        Errors: as of ``skip``.
        """
        begin = self.skip(size, what)
        place = begin - self._begin
        if not 0 <= place <= len(self._window) - size:
            self.stream.seek(begin)
            count = min(max(size, WINDOW_BYTES), self.storage.size - begin)
            self._window, self._begin, place = self.stream.read(count), begin, 0
            if len(self._window) < size:
                raise self.storage.error(f"{self.storage.name}: {disk.CHANGED}")
        return self._window[place : place + size]

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> FileArray:
        """Return the array that stands next, its numbers not read.

        Errors: as of ``skip``.
        """
        size = math.prod(shape) * dtype.itemsize
        if size > self.remaining:
            self.skip(size, f"{what}, {dtype} {shape},")
        self.offset += size
        return FileArray(self.storage, self.offset - size, dtype, shape)
