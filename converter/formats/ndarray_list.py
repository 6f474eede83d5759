"""Read and write MXNet's NDArray list, the container of ``.params`` files, leaving values on disk.

Little-endian, unaligned: list header (u64 magic, u64 reserved, u64 count), the records, u64 count of
names, then (u64 length, UTF-8) for each. A record is

    legacy (MXNet ≤ 0.10)    u32 ndim, ndim × u32 shape
    V1 (0.11)                u32 magic, u32 ndim, ndim × i64 shape
    V2 (0.12 to 1.9)         u32 magic, i32 storage type, i32 ndim, ndim × i64 shape
    V3 (np-shape mode, 2.0)  as V2; ndim 0 is a scalar, in the others an array without shape and data

followed by 2 × i32 context, i32 type, data. Source: src/ndarray/ndarray.cc, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, BinaryIO

from converter import names
from converter.dtypes import BY_MXNET, TO_MXNET
from converter.formats.binary_reader import MAX_DIMENSIONS
from converter.formats.detect import NDARRAY_LIST_SIGNATURE
from converter.formats.file_arrays import PieceReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.formats.binary_reader import BinaryReader
    from converter.formats.file_arrays import AnyArray, FileArray

V2_MAGIC, V3_MAGIC = 0xF993FAC9, 0xF993FACA
LEGACY, V1, V2, V3 = "legacy", "V1", "V2", "V3"
RECORDS = {0xF993FAC8: V1, V2_MAGIC: V2, V3_MAGIC: V3}
DENSE_OR_SPARSE = {V2, V3}  # records with a storage type
STORAGE_TYPES = {1: "row_sparse", 2: "csr"}
CPU_CONTEXT = (1, 0)
PLAIN = (V2_MAGIC, 0)  # the beginning of a dense V2 record
HEADER_BYTES = 12  # three numbers before the shape, and three after it
MIN_RECORD_BYTES = 21  # of a legacy record with one byte of data; bounds the count before the loop
MAX_ARRAYS = 100_000  # the largest network here has 987
MAX_NAME_BYTES = 512


def read(cursor: BinaryReader) -> tuple[dict[str, FileArray], tuple[str, ...]]:
    """Read a list without the arrays' values; every size is checked before it is used.

    Returns:
        The arrays by name, in file order, and the kinds of the records.

    Raises:
        ParamsError: if the list is malformed, with the byte offset and the content there.
    """
    cursor.take("<QQ", "the list header")
    (count,) = cursor.take("<Q", "the list header")
    if count == 0:
        raise cursor.error("the file contains no arrays", at=16)
    if count > (limit := min(MAX_ARRAYS, cursor.remaining // MIN_RECORD_BYTES)):
        raise cursor.error(
            f"the header declares {count} arrays; the limit for {cursor.remaining} bytes is {limit}", at=16
        )
    kinds: dict[str, None] = {}
    arrays = []
    for number in range(count):
        kind, array = _read_plain_record(cursor) or _read_record(cursor, f"array {number}")
        kinds[kind] = None
        arrays.append(array)
    array_names = _read_names(cursor, count)
    if cursor.remaining:
        raise cursor.error(f"{cursor.remaining} bytes after the end of the list")
    return dict(zip(array_names, arrays, strict=True)), tuple(kinds)


def write(stream: BinaryIO, arrays: Mapping[str, AnyArray]) -> None:
    """Write a named list of dense V2 records in the CPU context, as ``net.save_parameters`` does.

    V2 does not support scalars. If there is one, all records are V3, which MXNet reads in np-shape mode.
    """
    magic = V2_MAGIC if all(array.ndim for array in arrays.values()) else V3_MAGIC
    stream.write(struct.pack("<8sQQ", NDARRAY_LIST_SIGNATURE, 0, len(arrays)))
    reader = PieceReader()
    for array in arrays.values():
        shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
        stream.write(struct.pack("<Ii", magic, 0) + shape)
        stream.write(struct.pack("<iii", *CPU_CONTEXT, TO_MXNET[array.dtype]))
        stream.writelines(reader.pieces(array))
    stream.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode()
        stream.write(struct.pack("<Q", len(encoded)) + encoded)


def _read_plain_record(cursor: BinaryReader) -> tuple[str, FileArray] | None:
    """Read a valid dense V2 record, or return None for any other: the fast path of ``_read_record``."""
    header = cursor.peek("<Iii")
    if header is None or header[:2] != PLAIN or not 1 <= header[2] <= MAX_DIMENSIONS:
        return None
    ndim = header[2]
    rest = cursor.peek(f"<{ndim}q3i", ahead=HEADER_BYTES)
    dtype = BY_MXNET.get(rest[-1]) if rest else None
    if rest is None or dtype is None or min(shape := rest[:ndim]) < 1:
        return None
    size = HEADER_BYTES + 8 * ndim + HEADER_BYTES
    if size + math.prod(shape) * dtype.itemsize > cursor.remaining:
        return None
    cursor.offset += size
    return V2, cursor.array(dtype, shape, "an array")


def _read_record(cursor: BinaryReader, what: str) -> tuple[str, FileArray]:
    (magic,) = cursor.take("<I", what)
    kind = RECORDS.get(magic, LEGACY)
    if kind == LEGACY and magic > MAX_DIMENSIONS:
        raise cursor.error(f"{what} is not a record: it begins with {magic:#010x}", at=cursor.offset - 4)
    if kind in DENSE_OR_SPARSE:
        _require_dense(cursor, what)
    shape = _read_shape(cursor, kind, magic, what)
    _, _, type_number = cursor.take("<iii", what)
    dtype = BY_MXNET.get(type_number)
    if dtype is None:
        raise cursor.error(f"{what} has the unknown dtype code {type_number}", at=cursor.offset - 4)
    return kind, cursor.array(dtype, shape, what)


def _require_dense(cursor: BinaryReader, what: str) -> None:
    (storage,) = cursor.take("<i", what)
    if storage != 0:
        kind = STORAGE_TYPES.get(storage, f"of storage type {storage}")
        raise cursor.error(f"{what} is {kind}; only dense arrays are supported", at=cursor.offset - 4)


def _read_shape(cursor: BinaryReader, kind: str, magic: int, what: str) -> tuple[int, ...]:
    begin = cursor.offset
    if kind == LEGACY:
        ndim, begin = magic, begin - 4
    else:
        (ndim,) = cursor.take("<I" if kind == V1 else "<i", what)
    if ndim == 0 and kind != V3:
        raise cursor.error(f"{what} is empty: it has a name, but no shape and no data", at=begin)
    if not 0 <= ndim <= MAX_DIMENSIONS:
        raise cursor.error(f"{what} has {ndim} dimensions; up to {MAX_DIMENSIONS} are supported", at=begin)
    shape = cursor.take(f"<{ndim}{'I' if kind == LEGACY else 'q'}", what)
    if min(shape, default=1) < 1:
        raise cursor.error(f"{what} has the shape {shape}; every dimension must be at least 1", at=begin)
    return shape


def _read_names(cursor: BinaryReader, count: int) -> list[str]:
    begin = cursor.offset
    (name_count,) = cursor.take("<Q", "the count of names")
    if name_count == 0:
        raise cursor.error("the arrays have no names; a list without names cannot be matched", at=begin)
    if name_count != count:
        raise cursor.error(f"{count} arrays but {name_count} names", at=begin)
    unique: dict[str, None] = {}
    duplicates: list[str] = []
    for number in range(count):
        name = _read_name(cursor, number)
        if name in unique:
            duplicates.append(name)
        unique[name] = None
    if duplicates:
        raise cursor.error(f"duplicate names: {', '.join(names.collapse(duplicates))}", at=begin)
    return list(unique)


def _read_name(cursor: BinaryReader, number: int) -> str:
    (length,) = cursor.take("<Q", f"name {number}")
    if length > MAX_NAME_BYTES:
        raise cursor.error(
            f"name {number} declares {length} bytes; the limit is {MAX_NAME_BYTES}", at=cursor.offset - 8
        )
    begin = cursor.offset
    try:
        return cursor.bytes(length, f"name {number}").decode()
    except UnicodeDecodeError as error:
        raise cursor.error(f"name {number} is not UTF-8: {error.reason}", at=begin) from error
