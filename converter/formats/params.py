"""Read Gluon's ``.params`` files, leaving values on disk, and write them as MXNet 1 does."""

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
    """The contents of a ``.params`` file.

    Attributes:
        arrays: the arrays by name, in file order.
        container: ``LIST`` or ``NPZ``.
        records: the kinds of the records in an NDArray list: legacy, V1, V2, V3.
        stamp: a snapshot of the file, to detect changes.
    """

    arrays: dict[str, AnyArray]
    container: str
    records: tuple[str, ...] = ()
    stamp: FileSnapshot | None = None


def open_params(path: Path, *, name: str = "", verify: bool = True) -> Params:
    """Read the headers of a ``.params`` file; arrays that are not compressed stay on disk.

    Args:
        path: the file.
        name: its name in error messages, by default the path.
        verify: whether to verify the checksums of an npz, which reads the whole file.

    Raises:
        ParamsError: if the file is malformed, with the byte offset and the content there.
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
    """Read all arrays of a ``.params`` file into memory.

    Raises:
        ParamsError: if the file is malformed or has changed.
    """
    return {name: np.asarray(array) for name, array in open_params(path).arrays.items()}


def write_params(stream: BinaryIO, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays as ``net.save_parameters`` does."""
    ndarray_list.write(stream, arrays)
