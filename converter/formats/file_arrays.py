"""Arrays that stay on disk until their values are needed.

Files are read, not memory-mapped: truncating a mapped file kills the process with SIGBUS.
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
from converter.errors import StorageError
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PIECE = 1 << 20  # bytes; two such buffers fit into the cache of a core


class SourceFile:
    """A file that must not change while it is read, by any thread.

    Every read outside ``held`` reopens the file and compares device, inode, size and timestamps with
    those at construction. No descriptor stays open, so nothing depends on garbage collection, in which a
    signal's exception is lost.

    Args:
        path: the file.
        name: its name in error messages.

    Raises:
        StorageError: if the file cannot be read.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        with disk.reading(name), io.FileIO(path) as stream:
            status = os.fstat(stream.fileno())
        self.size, self.stamp = status.st_size, disk.snapshot_of(status)
        self._open_stream: BinaryIO | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file to read many small parts.

        Raises:
            StorageError: if the file cannot be read or has changed.
        """
        with disk.reading(self.name), io.BufferedReader(io.FileIO(self.path)) as stream:
            self._require_same(stream.fileno())
            yield stream

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file open while one thread reads many small arrays; check it on entry and exit.

        Raises:
            StorageError: if the file cannot be read or has changed.
        """
        with self.opened() as stream:
            self._open_stream = stream
            try:
                yield
            finally:
                self._open_stream = None
            self._require_same(stream.fileno())

    def fill(self, memory: memoryview, begin: int) -> None:
        """Fill ``memory`` with the bytes at the offset ``begin``.

        Raises:
            StorageError: if the file cannot be read or has changed.
        """
        with disk.reading(self.name):
            if self._open_stream is not None:
                done = _read_into(self._open_stream, memory, begin)
            else:
                with io.FileIO(self.path) as stream:
                    self._require_same(stream.fileno())
                    done = _read_into(stream, memory, begin)
        if done != len(memory):
            raise StorageError(f"{self.name}: {disk.CHANGED}")

    def read(self, begin: int, size: int) -> bytearray:
        """Return ``size`` bytes at the offset ``begin``.

        Raises:
            StorageError: if the file cannot be read or has changed.
        """
        memory = bytearray(size)
        self.fill(memoryview(memory), begin)
        return memory

    def _require_same(self, descriptor: int) -> None:
        if disk.snapshot_of(os.fstat(descriptor)) != self.stamp:
            raise StorageError(f"{self.name}: {disk.CHANGED}")


def _read_into(stream: Any, memory: memoryview, begin: int) -> int:  # noqa: ANN401 - raw or buffered
    """Read until ``memory`` is full or the file ends; return the number of bytes."""
    stream.seek(begin)
    done: int = stream.readinto(memory)
    while 0 < done < len(memory) and (count := stream.readinto(memory[done:])):
        done += count
    return done


class FileArray(msgspec.Struct, frozen=True, gc=False):
    """A numpy-like array backed by a region of a file; ``numpy.asarray`` reads its values each time.

    Attributes:
        storage: the file that holds the values.
        offset: where they start, in bytes.
        dtype: the type of the elements.
        shape: the length of each axis.
        fortran: whether the first axis varies fastest in the file.
    """

    storage: SourceFile
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        """Read the values into a new array in C order.

        Raises:
            StorageError: if the file cannot be read or has changed.
            ValueError: if ``copy`` is False.
        """
        if copy is False:
            raise ValueError("copy=False is impossible: the values are read from a file")
        buffer = np.empty(self.nbytes, np.uint8)
        self.storage.fill(buffer.data, self.offset)
        array: Array = buffer.view(self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.ascontiguousarray(array, dtype).reshape(self.shape)


class PieceReader:
    """Reads the bytes of arrays in pieces, alternating between two buffers.

    A piece is valid until the second one after it is read. The buffers are reused because allocating
    memory for each array takes longer than reading it.
    """

    def __init__(self) -> None:
        self._buffers = itertools.cycle([memoryview(bytearray(PIECE)) for _ in range(2)])

    def pieces(self, array: AnyArray) -> Iterator[memoryview]:
        """Yield an array's bytes in C order, without copying an array that is in memory in that order.

        Raises:
            StorageError: if the array's file cannot be read or has changed.
        """
        if isinstance(array, FileArray) and not array.fortran:
            for begin in range(0, array.nbytes, PIECE):
                piece = next(self._buffers)[: array.nbytes - begin]
                array.storage.fill(piece, array.offset + begin)
                yield piece
        else:
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            for begin in range(0, content.nbytes, PIECE):
                yield content[begin : begin + PIECE]


AnyArray = Array | FileArray
Arrays = Mapping[str, AnyArray]


@contextlib.contextmanager
def held(arrays: Iterable[AnyArray]) -> Iterator[None]:
    """Keep the files of many small arrays open while one thread reads them.

    Raises:
        StorageError: if a file cannot be read or has changed.
    """
    with contextlib.ExitStack() as stack:
        for storage in {array.storage for array in arrays if isinstance(array, FileArray)}:
            stack.enter_context(storage.held())
        yield
