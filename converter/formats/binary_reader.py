"""Read numbers, bytes and arrays from a file, with bounds checks."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from converter.errors import ParamsError, StorageError
from converter.formats.file_arrays import FileArray
from converter.storage import disk

if TYPE_CHECKING:
    import numpy as np

    from converter.formats.file_arrays import SourceFile

MAX_DIMENSIONS = 32  # of an array
WINDOW_BYTES = 1 << 12  # read at once: the headers of small arrays are close together


class BinaryReader:
    """Reads a ``.params`` file sequentially from an offset; its errors name the file and the byte offset."""

    def __init__(self, storage: SourceFile, stream: BinaryIO, offset: int = 0) -> None:
        self.storage = storage
        self.stream = stream
        self.offset = offset
        self._window, self._begin = b"", 0  # the bytes read last, and their offset

    def at(self, offset: int) -> BinaryReader:
        """Return a reader at another offset of the same file."""
        return BinaryReader(self.storage, self.stream, offset)

    @property
    def remaining(self) -> int:
        """The number of bytes left."""
        return self.storage.size - self.offset

    def error(self, message: str, at: int | None = None) -> ParamsError:
        """Return an error that names a byte offset, by default the current one."""
        place = self.offset if at is None else at
        return ParamsError(f"{self.storage.name}: byte {place}: {message}")

    def skip(self, size: int, what: str) -> int:
        """Skip ``size`` bytes and return the offset of the first.

        Raises:
            ParamsError: if fewer bytes are left.
        """
        if size > self.remaining:
            raise self.error(
                f"{what} needs {size} bytes, but only {self.remaining} are left; is the file truncated?\n"
                "  try         the same file, copied or downloaded again"
            )
        begin = self.offset
        self.offset += size
        return begin

    def take(self, layout: str, what: str) -> tuple[int, ...]:
        """Read numbers; ``layout`` is a format of ``struct``.

        Raises:
            ParamsError: if fewer bytes are left.
            StorageError: if the file cannot be read or has changed.
        """
        size, place = struct.calcsize(layout), self.offset - self._begin
        if not 0 <= place <= len(self._window) - size:
            return struct.unpack(layout, self.bytes(size, what))
        self.offset += size
        return struct.unpack_from(layout, self._window, place)

    def peek(self, layout: str, ahead: int = 0) -> tuple[int, ...] | None:
        """Return numbers ``ahead`` bytes from here, or None if they are not in the bytes read last."""
        place = self.offset - self._begin + ahead
        if not 0 <= place <= len(self._window) - struct.calcsize(layout):
            return None
        return struct.unpack_from(layout, self._window, place)

    def bytes(self, size: int, what: str) -> bytes:
        """Read ``size`` bytes.

        Raises:
            ParamsError: if fewer bytes are left.
            StorageError: if the file cannot be read or has changed.
        """
        begin = self.skip(size, what)
        place = begin - self._begin
        if not 0 <= place <= len(self._window) - size:
            self.stream.seek(begin)
            count = min(max(size, WINDOW_BYTES), self.storage.size - begin)
            self._window, self._begin, place = self.stream.read(count), begin, 0
            if len(self._window) < size:
                raise StorageError(f"{self.storage.name}: {disk.CHANGED}")
        return self._window[place : place + size]

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> FileArray:
        """Return the array at this offset without reading its values, and skip them.

        Raises:
            ParamsError: if fewer bytes are left.
        """
        size = math.prod(shape) * dtype.itemsize
        if size > self.remaining:
            self.skip(size, f"{what}, {dtype} {shape},")
        self.offset += size
        return FileArray(self.storage, self.offset - size, dtype, shape)
