"""MXNet 2's container of ``.params`` files: numpy's npz, a zip with a ``.npy`` for each array.

A member that is stored is a view of the file; one that is compressed is unpacked into memory.
Sources: src/serialization/cnpy.cc, apache/mxnet 2.0; numpy/lib/format.py; PKWARE's APPNOTE 6.3, 4.3.7.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from converter import names
from converter.dtypes import TO_MXNET
from converter.files.archives import ENCRYPTED, METHODS, UNZIPPABLE, packed_limit
from converter.files.cursor import MAX_DIMENSIONS, Cursor

if TYPE_CHECKING:
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo

    from converter.dtypes import Array

SIGNATURE = b"PK\x03\x04"
SUFFIX = ".npy"
LOCAL_HEADER = (
    "<5H3I2H"  # after its signature; the last two are the lengths of the name and of what follows it
)
MAX_HEADER_BYTES = 10_000  # of a .npy; numpy's own bound
# What numpy raises at headers that are none, and its warning of one that Python 2 wrote.
UNREADABLE = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError, UserWarning)


def is_npz(path: Path) -> bool:
    """Return whether a file is a zip of arrays, whatever it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(SUFFIX) for name in archive.namelist())
    except UNZIPPABLE:
        return False


def read(path: Path, cursor: Cursor, *, verify: bool) -> dict[str, Array]:
    """Return the arrays by name, in file order; those that are stored as views of the file's map.

    ``verify``: check every checksum, for which the whole file is read.
    Errors: ``ParamsError`` with the byte offset of the member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(cursor, archive, verify=verify)
    except UNZIPPABLE as error:
        raise cursor.error(f"no zip that can be read: {error}", at=0) from error


def _read_members(cursor: Cursor, archive: ZipFile, *, verify: bool) -> dict[str, Array]:
    members = archive.infolist()
    if not members:
        raise cursor.error("the file holds no arrays", at=0)
    limit = packed_limit(len(cursor.memory))
    if sum(member.file_size for member in members) > limit:
        raise cursor.error(f"its arrays are said to have more than {limit} bytes", at=0)
    arrays: dict[str, Array] = {}
    for member in members:
        if reason := _refusal(member):
            raise cursor.error(f"{member.filename!r} {reason}", at=max(member.header_offset, 0))
        name = member.filename.removesuffix(SUFFIX)
        if name in arrays:
            raise cursor.error(f"{name!r} occurs twice", at=member.header_offset)
        arrays[name] = _read_member(cursor, archive, member, verify=verify)
    return arrays


def _refusal(member: ZipInfo) -> str:
    if not member.filename.endswith(SUFFIX):
        return f"is no {SUFFIX}"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in METHODS:
        return f"is compressed by method {member.compress_type}, which numpy never uses"
    return "" if member.header_offset >= 0 else "is said to lie before the file begins"


def _read_member(cursor: Cursor, archive: ZipFile, member: ZipInfo, *, verify: bool) -> Array:
    what = names.printable(member.filename)
    if member.compress_type != zipfile.ZIP_STORED:
        with archive.open(member) as packed:
            unpacked = packed.read(
                member.file_size
            )  # no more than promised; its checksum is checked at the end
        return _read_array(cursor, io.BytesIO(unpacked), memoryview(unpacked), what, member.header_offset)
    local = Cursor(cursor.memory, cursor.file, member.header_offset)
    if local.bytes(len(SIGNATURE), what) != SIGNATURE:
        raise local.error(f"{what}: no member begins here", at=member.header_offset)
    *_, name_length, extra_length = local.take(LOCAL_HEADER, what)
    local.skip(name_length + extra_length, what)
    begin = local.skip(member.file_size, what)
    content = cursor.memory[begin : local.offset]
    if verify and zlib.crc32(content) != member.CRC:
        raise local.error(f"{what}: its checksum is not what it should be: the file is damaged", at=begin)
    header = io.BytesIO(content[: MAX_HEADER_BYTES + npy.MAGIC_LEN + 4])
    return _read_array(cursor, header, content, what, begin)


def _read_array(cursor: Cursor, header: io.BytesIO, content: memoryview, what: str, at: int) -> Array:
    try:
        shape, fortran, dtype = _read_header(header)
    except UNREADABLE as error:
        raise cursor.error(f"{what}: {error or type(error).__name__}", at=at) from error
    if dtype not in TO_MXNET:
        raise cursor.error(f"{what} has type {dtype}, which MXNet has not", at=at)
    if len(shape) > MAX_DIMENSIONS or min(shape, default=1) < 1:
        raise cursor.error(f"{what} has the shape {shape}; every dimension must be 1 or more", at=at)
    data = content[header.tell() :]
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise cursor.error(f"{what}, {dtype} {shape}, does not fill its {len(data)} bytes", at=at)
    array: Array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array) if fortran else array


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a .npy's header. Errors: those of ``UNREADABLE``."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"a .npy of version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        shape, fortran, dtype = readers[version](stream)
    if any(isinstance(length, bool) for length in shape):  # which numpy lets pass, and does not take
        raise ValueError(f"the shape {shape}")
    return shape, fortran, dtype
