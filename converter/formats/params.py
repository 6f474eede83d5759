"""Gluon's ``.params`` files: read, whatever the container, but for the numbers; written as MXNet 1 does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from converter.errors import ParamsError
from converter.formats import ndarray_list, npz
from converter.formats.binary_reader import BinaryReader
from converter.formats.file_arrays import SourceFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray
    from converter.storage.disk import FileSnapshot

LIST, NPZ = "ndarray-list", "npz"


@dataclass(frozen=True, slots=True)
class Params:
    """What is in a ``.params`` file: its arrays by name, in file order, and how it keeps them.

    ``records`` are the kinds of record of an NDArray list: legacy, V1, V2, V3. ``stamp`` tells which file it
    was.
    """

    arrays: dict[str, AnyArray]
    container: str
    records: tuple[str, ...] = ()
    stamp: FileSnapshot | None = None


def open_params(path: Path, *, name: str = "", verify: bool = True) -> Params:
    """Read a ``.params`` file's headers. Its arrays stay in it, as far as they are not compressed.

    ``name`` is what errors call the file, where that is not its path. ``verify``: check the checksums of a
    container that has them, for which all of it is read.
    Errors: ``ParamsError`` with the byte offset and what stood there.
    """
    storage = SourceFile(path, name or str(path), ParamsError)
    with storage.opened() as stream:
        begin, cursor = stream.read(len(ndarray_list.MAGIC)), BinaryReader(storage, stream)
        if not begin:
            raise ParamsError(f"{storage.name}: the file is empty")
        if begin.startswith(npz.SIGNATURE):
            return Params(npz.read(cursor, verify=verify), NPZ, stamp=storage.stamp)
        if not ndarray_list.MAGIC.startswith(begin):
            raise cursor.error(f"no .params file: begins with {begin!r}")
        arrays, records = ndarray_list.read(cursor)
        return Params({**arrays}, LIST, records, storage.stamp)


def read_params(path: Path) -> dict[str, Array]:
    """Return the arrays of a ``.params`` file, all of them in memory.

    Errors: as of ``open_params``.
    """
    return {name: np.asarray(array) for name, array in open_params(path).arrays.items()}


def write_params(stream: BinaryIO, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays as ``net.save_parameters`` does."""
    ndarray_list.write(stream, arrays)
