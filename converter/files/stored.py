"""Arrays that stay in their file until somebody needs the numbers, so that no file is ever in memory whole.

They are read and not mapped: a mapped file that is cut off ends the process without a word.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.dtypes import Array
from converter.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.errors import ConversionError

PIECE = 1 << 20  # bytes in memory at once, twice: as much as a core keeps near


class _Raw(io.FileIO):
    """A file that may be left to be closed by whoever lets go of it last.

    Python warns of such files, but for this. What it calls then has to be C: a signal that comes while Python
    code closes it is lost.
    """

    _dealloc_warn = staticmethod(id)


class Storage:
    """An open file of which parts are read, by any thread; it closes when nobody knows it any more.

    ``name`` is what errors call it, ``error`` their kind. ``size`` and ``stamp`` are of when it was opened.
    """

    def __init__(self, path: Path, name: str, error: type[ConversionError]) -> None:
        self.name = name
        self.error = error
        try:
            self._stream = io.BufferedReader(_Raw(path))
            status = os.fstat(self._stream.fileno())
        except OSError as cause:
            raise error(f"{name}: {cause.strerror or cause}") from cause
        self.size, self.stamp = status.st_size, disk.stamp_of(status)
        self._lock = threading.Lock()  # the stream has one place

    def read(self, begin: int, size: int) -> bytes:
        """Return ``size`` bytes. Errors: ``error`` where the file no longer has them."""
        memory = bytearray(size)
        self.fill(memoryview(memory), begin)
        return bytes(memory)

    def fill(self, memory: memoryview, begin: int) -> None:
        """Read as many bytes as ``memory`` has room for. Errors: as of ``read``."""
        try:
            with self._lock:
                self._stream.seek(begin)
                done = self._stream.readinto(memory)
        except OSError as cause:
            raise self.error(f"{self.name}: {cause.strerror or cause}") from cause
        if done != len(memory):
            raise self.error(f"{self.name}: {disk.CHANGED}")


@dataclass(frozen=True, slots=True)
class Stored:
    """What numpy knows of an array, but for its numbers: ``numpy.asarray`` reads these, each time anew.

    ``offset`` is where they begin in the file; ``fortran`` says that the first axis is the innermost there.
    """

    storage: Storage
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes these are."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        """Return the numbers, in memory of their own, the last axis innermost.

        Errors: as of ``Storage.read``; ``ValueError`` where no copy is wanted.
        """
        if copy is False:
            raise ValueError("the numbers are in a file, and have to be read")
        numbers = np.empty(self.nbytes, np.uint8)
        self.storage.fill(numbers.data, self.offset)
        array: Array = numbers.view(self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.ascontiguousarray(array, dtype).reshape(self.shape)


class Reader:
    """Gives the bytes of arrays in pieces, each of which is overwritten by the next but one.

    All are read into the same memory: to get fresh memory for each array costs more than reading.
    """

    def __init__(self) -> None:
        self._rooms = itertools.cycle([memoryview(bytearray(PIECE)) for _ in range(2)])

    def pieces(self, array: AnyArray) -> Iterator[memoryview]:
        """Give an array's bytes, the last axis innermost; those of one in memory are not copied.

        Errors: as of ``Storage.read``.
        """
        if isinstance(array, Stored) and not array.fortran:
            for begin in range(0, array.nbytes, PIECE):
                piece = next(self._rooms)[: array.nbytes - begin]
                array.storage.fill(piece, array.offset + begin)
                yield piece
        else:
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            for begin in range(0, content.nbytes, PIECE):
                yield content[begin : begin + PIECE]


AnyArray = Array | Stored
Arrays = Mapping[str, AnyArray]
