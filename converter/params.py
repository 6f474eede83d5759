"""MXNet's ``.params`` file, the NDArray list: read from a memory map, written byte for byte as MXNet does.

Little-endian, unaligned: list header (u64 magic, u64 reserved, u64 count), the records, u64 count of names,
then (u64 length, UTF-8) each. A V2 record is u32 magic, i32 storage type, i32 ndim, ndim × i64 shape,
2 × i32 context, i32 type, data. Source: src/ndarray/ndarray.cc, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from converter import names
from converter.errors import ParamsError

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

LIST_MAGIC = 0x112
V2_MAGIC = 0xF993FAC9
OTHER_RECORDS = {0xF993FAC8: "a V1 record (MXNet 0.11)", 0xF993FACA: "a V3 record (MXNet's np-shape mode)"}
OTHER_CONTAINERS = {b"PK\x03\x04": "a zip or MXNet 2 npz file", b"\x1f\x8b": "a gzip file"}
STORAGE_TYPES = {1: "row_sparse", 2: "csr"}
DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
}
TYPE_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
CPU_CONTEXT = (1, 0)
MAX_DIMENSIONS = 32
MIN_RECORD_BYTES = 33  # one dimension, one byte of data; bounds the count before the loop
MAX_ARRAYS = 100_000  # the largest network here has 987
MAX_NAME_BYTES = 512


def read_params(path: Path) -> dict[str, Array]:
    """Map a ``.params`` file into memory: its arrays by name, in file order, read-only views of the map.

    Every bound is checked before it is used; nothing is copied.
    Errors: ``ParamsError`` with the byte offset and what stood there, or the name of a kind not read yet.
    """
    try:
        with path.open("rb") as stream:
            memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise ParamsError(f"{path}: the file is empty") from error
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror or error}") from error
    return _read_list(_Cursor(memory, str(path)))


def write_params(stream: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write a named list of V2 records, dense, on the CPU: what ``net.save_parameters`` writes."""
    stream.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
    for array in arrays.values():
        shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
        stream.write(struct.pack("<Ii", V2_MAGIC, 0) + shape)
        stream.write(struct.pack("<iii", *CPU_CONTEXT, TYPE_NUMBERS[array.dtype]))
        stream.write(np.ascontiguousarray(array).data)
    stream.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode()
        stream.write(struct.pack("<Q", len(encoded)) + encoded)


class _Cursor:
    """A place in the file, and the promise that nothing is taken that is not there."""

    def __init__(self, memory: mmap.mmap, file: str) -> None:
        self.memory = memory
        self.file = file
        self.offset = 0

    @property
    def remaining(self) -> int:
        return len(self.memory) - self.offset

    def error(self, message: str, at: int | None = None) -> ParamsError:
        return ParamsError(f"{self.file}: byte {self.offset if at is None else at}: {message}")

    def skip(self, size: int, what: str) -> int:
        """Step over ``size`` bytes and return where they begin."""
        if size > self.remaining:
            raise self.error(f"{what} needs {size} bytes, {self.remaining} are left; is the file truncated?")
        begin = self.offset
        self.offset += size
        return begin

    def take(self, layout: str, what: str) -> tuple[int, ...]:
        begin = self.skip(struct.calcsize(layout), what)
        return struct.unpack_from(layout, self.memory, begin)


def _read_list(cursor: _Cursor) -> dict[str, Array]:
    for signature, container in OTHER_CONTAINERS.items():
        if cursor.memory[: len(signature)] == signature:
            raise cursor.error(f"{container}, which is not read yet")
    if not struct.pack("<Q", LIST_MAGIC).startswith(cursor.memory[:8]):
        raise cursor.error(f"no .params file: begins with {cursor.memory[:8]!r}")
    _, _, count = cursor.take("<QQQ", "the list header")
    if count == 0:
        raise cursor.error("the file holds no arrays", at=16)
    if count > min(MAX_ARRAYS, cursor.remaining // MIN_RECORD_BYTES):
        raise cursor.error(
            f"{count} arrays promised, more than {MAX_ARRAYS} or {cursor.remaining} bytes can hold", at=16
        )
    arrays = [_read_record(cursor, number) for number in range(count)]
    found = _read_names(cursor, count)
    if cursor.remaining:
        raise cursor.error(f"{cursor.remaining} bytes after the end of the list")
    return dict(zip(found, arrays, strict=True))


def _read_record(cursor: _Cursor, number: int) -> Array:
    what = f"array {number}"
    begin = cursor.offset
    (magic,) = cursor.take("<I", what)
    if magic != V2_MAGIC:
        legacy = "a legacy record (MXNet 0.10 or older)"
        unknown = legacy if magic <= MAX_DIMENSIONS else f"no record: {magic:#010x}"
        kind = OTHER_RECORDS.get(magic, unknown)
        raise cursor.error(f"{what} is {kind}; dense V2 records are read", at=begin)
    (storage,) = cursor.take("<i", what)
    if storage != 0:
        kind = STORAGE_TYPES.get(storage, f"of storage type {storage}")
        raise cursor.error(f"{what} is {kind}; dense V2 records are read", at=begin)
    (ndim,) = cursor.take("<i", what)
    if not 1 <= ndim <= MAX_DIMENSIONS:
        raise cursor.error(f"{what} has {ndim} dimensions; 1 to {MAX_DIMENSIONS} are read", at=begin)
    shape = cursor.take(f"<{ndim}q", what)
    _, _, type_number = cursor.take("<iii", what)
    dtype = DTYPES.get(type_number)
    if dtype is None:
        raise cursor.error(f"{what} has type number {type_number}, which is not read", at=begin)
    if min(shape) < 1:
        raise cursor.error(f"{what} has the shape {shape}; every dimension must be 1 or more", at=begin)
    size = math.prod(shape)
    data = cursor.skip(size * dtype.itemsize, f"{what}, {dtype} {shape},")
    array: Array = np.frombuffer(cursor.memory, dtype, size, data)
    return array.reshape(shape)


def _read_names(cursor: _Cursor, count: int) -> list[str]:
    begin = cursor.offset
    (name_count,) = cursor.take("<Q", "the count of names")
    if name_count == 0:
        raise cursor.error("the arrays have no names; a list without names cannot be matched", at=begin)
    if name_count != count:
        raise cursor.error(f"{count} arrays but {name_count} names", at=begin)
    found: dict[str, None] = {}
    twice: list[str] = []
    for number in range(count):
        name = _read_name(cursor, number)
        if name in found:
            twice.append(name)
        found[name] = None
    if twice:
        raise cursor.error(f"names that occur twice: {', '.join(names.collapse(twice))}", at=begin)
    return list(found)


def _read_name(cursor: _Cursor, number: int) -> str:
    (length,) = cursor.take("<Q", f"name {number}")
    if length > MAX_NAME_BYTES:
        raise cursor.error(f"name {number} is said to be {length} bytes long", at=cursor.offset - 8)
    begin = cursor.skip(length, f"name {number}")
    try:
        return cursor.memory[begin : cursor.offset].decode()
    except UnicodeDecodeError as error:
        raise cursor.error(f"name {number} is not UTF-8: {error.reason}", at=begin) from error
