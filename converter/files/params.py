"""Gluon's ``.params`` files: read as views of their bytes, whatever the container; written as MXNet 1 does.

The bytes are read into memory once, and not mapped: a mapped file that is cut off ends the process without a
word, and one that is written to changes weights that were checked already.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import ParamsError
from converter.files import ndarray_list, npz
from converter.files.cursor import Cursor

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from converter.dtypes import Array

LIST, NPZ = "ndarray-list", "npz"


@dataclass(frozen=True, slots=True)
class Params:
    """What is in a ``.params`` file: its arrays by name, in file order, and how it keeps them.

    ``records`` are the kinds of record of an NDArray list: legacy, V1, V2, V3.
    """

    arrays: dict[str, Array]
    container: str
    records: tuple[str, ...] = ()


def open_params(path: Path, *, name: str = "", verify: bool = True) -> Params:
    """Read a ``.params`` file. Its arrays are read-only views of it, as far as they are not compressed.

    ``name`` is what errors call the file, where that is not its path. ``verify``: check the checksums of a
    container that has them; without that the file is mapped, and only headers are read.
    Errors: ``ParamsError`` with the byte offset and what stood there.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            begin = stream.read(len(ndarray_list.MAGIC))
            known = begin.startswith((npz.SIGNATURE, ndarray_list.MAGIC))
            memory = _read(stream) if verify and known else _mapped(stream)
    except ValueError as error:
        raise ParamsError(f"{path}: the file is empty") from error
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror or error}") from error
    cursor = Cursor(memory, name or str(path))
    if begin.startswith(npz.SIGNATURE):
        return Params(npz.read(path, cursor, verify=verify), NPZ)
    if not ndarray_list.MAGIC.startswith(begin):
        raise cursor.error(f"no .params file: begins with {begin!r}")
    arrays, records = ndarray_list.read(cursor)
    return Params(arrays, LIST, records)


def read_params(path: Path) -> dict[str, Array]:
    """Return the arrays of a ``.params`` file.

    Errors: as of ``open_params``.
    """
    return open_params(path).arrays


def write_params(stream: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write arrays as ``net.save_parameters`` does."""
    ndarray_list.write(stream, arrays)


def _read(stream: FileIO) -> memoryview:
    """Return all bytes of a file, in memory that does not change with it."""
    size, done = stream.seek(0, os.SEEK_END), stream.seek(0)
    room = mmap.mmap(-1, size, access=mmap.ACCESS_COPY)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux gives them a hundred thousand small ones' time otherwise
        room.madvise(mmap.MADV_HUGEPAGE)
    memory = memoryview(room)
    while done < size and (more := stream.readinto(memory[done:])):
        done += more
    return memory[:done].toreadonly()


def _mapped(stream: FileIO) -> memoryview:
    """Return all bytes of a file, none of them read yet. Errors: ``ValueError`` without any."""
    return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
