"""Read Gluon's ``.params`` files, leaving values on disk, and write them as MXNet 1 does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from converter.dtypes import TO_MXNET
from converter.errors import ParamsError
from converter.formats import detect, ndarray_list, npz
from converter.formats.binary_reader import BinaryReader
from converter.formats.file_arrays import SourceFile
from converter.formats.kinds import DESCRIPTIONS, PACKED, Kind
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from numpy.typing import ArrayLike

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray
    from converter.storage.disk import FileSnapshot


@dataclass(frozen=True, slots=True)
class Params:
    """The contents of a ``.params`` file.

    Attributes:
        arrays: the arrays by name, in file order.
        container: NDArray list or npz.
        records: the kinds of the records in an NDArray list: legacy, V1, V2, V3.
        stamp: a snapshot of the file, to detect changes.
    """

    arrays: dict[str, AnyArray]
    container: Kind
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
        StorageError: if the file cannot be read or has changed.
    """
    storage = SourceFile(path, name or str(path))
    with storage.opened() as stream:
        begin, cursor = stream.read(len(detect.NDARRAY_LIST_SIGNATURE)), BinaryReader(storage, stream)
        if begin.startswith(detect.ZIP_SIGNATURE):
            if detect.kind(path, storage.name) is Kind.other_zip:
                raise _refusal(path, cursor, begin)
            return Params(npz.read(cursor, verify=verify), Kind.npz, stamp=storage.stamp)
        if not (begin and detect.NDARRAY_LIST_SIGNATURE.startswith(begin)):
            raise _refusal(path, cursor, begin)
        arrays, records = ndarray_list.read(cursor)
        return Params({**arrays}, Kind.ndarray_list, records, storage.stamp)


def _refusal(path: Path, cursor: BinaryReader, begin: bytes) -> ParamsError:
    kind = detect.kind(path, cursor.storage.name)
    if kind is Kind.unknown or kind in PACKED:
        return cursor.error(
            f"not a .params file: it begins with {begin!r}\n  {DESCRIPTIONS[Kind.unknown].next}"
        )
    return ParamsError(detect.refusal(path, kind, cursor.storage.name))


def load_params(path: str | PathLike[str]) -> dict[str, Array]:
    """Read all arrays of a ``.params`` file into memory, by their names in the file.

    Raises:
        ParamsError: if the file is malformed.
        StorageError: if the file cannot be read or has changed.
    """
    return {name: np.asarray(array) for name, array in open_params(Path(path)).arrays.items()}


def save_params(arrays: Mapping[str, ArrayLike], path: str | PathLike[str]) -> None:
    """Write arrays to a ``.params`` file, with the bytes that ``net.save_parameters`` writes.

    The file appears complete or not at all; an existing regular file is replaced.

    Raises:
        ParamsError: if there are no arrays, or MXNet cannot represent one.
        ArtifactError: if a folder or a link has the file's name.
        StorageError: if the file cannot be written.
    """
    path = Path(path)
    if not arrays:
        raise ParamsError("no arrays to write")
    converted = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in converted.items():
        if array.dtype not in TO_MXNET:
            raise ParamsError(f"{name}: MXNet has no dtype {array.dtype}")
        if not array.size:
            raise ParamsError(f"{name}: has no elements, which MXNet cannot read")
    with disk.temporary(path.parent) as part:
        with disk.writing(path), part.open("wb") as stream:
            write_params(stream, converted)
        disk.place(part, path, overwrite=True)


def write_params(stream: BinaryIO, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays as ``net.save_parameters`` does."""
    ndarray_list.write(stream, arrays)
