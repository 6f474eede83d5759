"""Arrays that stay in their file until somebody needs the numbers, so that no file is ever in memory whole.

They are read and not mapped: a mapped file that is cut off ends the process without a word.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import numpy as np

from converter.dtypes import Array
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.errors import ConversionError

PIECE = 1 << 20  # bytes in memory at once, twice: as much as a core keeps near


class SourceFile:
    """A file of which parts are read, by any thread, as long as it is the same as at first.

    It is opened anew each time: nothing has to be closed at the end, least of all by the garbage collector,
    where a signal is lost. ``name`` is what errors call it, ``error`` their kind.
    """

    def __init__(self, path: Path, name: str, error: type[ConversionError]) -> None:
        self.path = path
        self.name = name
        self.error = error
        with self._explained(), io.FileIO(path) as stream:
            status = os.fstat(stream.fileno())
        self.size, self.stamp = status.st_size, disk.snapshot_of(status)
        self._held: BinaryIO | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it, to read many small parts.

        Errors: ``error`` where it is not what it was, or cannot be read.
        """
        with self._explained(), io.BufferedReader(io.FileIO(self.path)) as stream:
            self._require_same(stream.fileno())
            yield stream

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep it open while one thread reads many small arrays; it is checked at the begin and the end.

        Errors: as of ``opened``.
        """
        with self.opened() as stream:
            self._held = stream
            try:
                yield
            finally:
                self._held = None
            self._require_same(stream.fileno())

    def fill(self, memory: memoryview, begin: int) -> None:
        """Read as many bytes as ``memory`` has room for.

        Errors: as of ``opened``.
        """
        try:
            if self._held is not None:
                done = _read_into(self._held, memory, begin)
            else:
                with io.FileIO(self.path) as stream:
                    self._require_same(stream.fileno())
                    done = _read_into(stream, memory, begin)
        except OSError as cause:
            raise self.error(f"{self.name}: {cause.strerror or cause}") from cause
        if done != len(memory):
            raise self.error(f"{self.name}: {disk.CHANGED}")

    def read(self, begin: int, size: int) -> bytearray:
        """Return some bytes.

        Errors: as of ``opened``.
        """
        memory = bytearray(size)
        self.fill(memoryview(memory), begin)
        return memory

    def _require_same(self, descriptor: int) -> None:
        if disk.snapshot_of(os.fstat(descriptor)) != self.stamp:
            raise self.error(f"{self.name}: {disk.CHANGED}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise self.error(f"{self.name}: {cause.strerror or cause}") from cause


def _read_into(stream: Any, memory: memoryview, begin: int) -> int:  # noqa: ANN401 - raw or buffered
    """Read as much as there is room for; return how much that was."""
    stream.seek(begin)
    done: int = stream.readinto(memory)
    while 0 < done < len(memory) and (count := stream.readinto(memory[done:])):
        done += count
    return done


class FileArray(msgspec.Struct, frozen=True, gc=False):
    """What numpy knows of an array, but for its numbers: ``numpy.asarray`` reads these, each time anew.

    ``offset`` is where they begin in the file; ``fortran`` says that the first axis is the innermost there.
    """

    storage: SourceFile
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

        Errors: as of ``Storage.fill``; ``ValueError`` where no copy is wanted.
        """
        if copy is False:
            raise ValueError("the numbers are in a file, and have to be read")
        numbers = np.empty(self.nbytes, np.uint8)
        self.storage.fill(numbers.data, self.offset)
        array: Array = numbers.view(self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.ascontiguousarray(array, dtype).reshape(self.shape)


class PieceReader:
    """Gives the bytes of arrays in pieces, each of which is overwritten by the next but one.

    All are read into the same memory: to get fresh memory for each array costs more than reading.
    """

    def __init__(self) -> None:
        self._rooms = itertools.cycle([memoryview(bytearray(PIECE)) for _ in range(2)])

    def pieces(self, array: AnyArray) -> Iterator[memoryview]:
        """Give an array's bytes, the last axis innermost; those of one in memory are not copied.

        Errors: as of ``Storage.fill``.
        """
        if isinstance(array, FileArray) and not array.fortran:
            for begin in range(0, array.nbytes, PIECE):
                piece = next(self._rooms)[: array.nbytes - begin]
                array.storage.fill(piece, array.offset + begin)
                yield piece
        else:
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            for begin in range(0, content.nbytes, PIECE):
                yield content[begin : begin + PIECE]


AnyArray = Array | FileArray
Arrays = Mapping[str, AnyArray]
