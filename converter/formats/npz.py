"""MXNet 2's container of ``.params`` files: numpy's npz, a zip with a ``.npy`` for each array.

A member that is stored stays in the file; one that is compressed is unpacked into memory.
Sources: src/serialization/cnpy.cc, apache/mxnet 2.0; numpy/lib/format.py; PKWARE's APPNOTE 6.3, 4.3.7.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from converter import names
from converter.dtypes import TO_MXNET
from converter.formats.archives import ENCRYPTED, METHODS, UNZIPPABLE, packed_limit
from converter.formats.binary_reader import MAX_DIMENSIONS, BinaryReader
from converter.formats.file_arrays import PIECE, FileArray, PieceReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo

    from converter.formats.file_arrays import AnyArray

    Shape = tuple[int, ...]
    # Where the numbers begin, after the header; their type; their shape; whether the first axis is innermost.
    Take = Callable[[int, np.dtype[Any], Shape, bool], AnyArray]

SIGNATURE = b"PK\x03\x04"
SUFFIX = ".npy"
LOCAL_HEADER = (
    "<5H3I2H"  # after its signature; the last two are the lengths of the name and of what follows it
)
MAX_HEADER_BYTES = 10_000  # of a .npy; numpy's own bound
HEAD = MAX_HEADER_BYTES + npy.MAGIC_LEN + 4  # the bytes that a header may reach to
BYTES = np.dtype(np.uint8)
PATCH, STRONGLY = 0x20, 0x40  # flags that zipfile refuses too
TEXT = 0x800  # the flag of names in UTF-8
# What numpy raises at headers that are none, and its warning of one that Python 2 wrote.
UNREADABLE = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError, UserWarning)


def is_npz(path: Path) -> bool:
    """Return whether a file is a zip of arrays, whatever it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(SUFFIX) for name in archive.namelist())
    except UNZIPPABLE:
        return False


def read(cursor: BinaryReader, *, verify: bool) -> dict[str, AnyArray]:
    """Return the arrays by name, in file order; the numbers of those that are stored are not read.

    ``verify``: check every checksum, for which the whole file is read.
    Errors: ``ParamsError`` with the byte offset of the member.
    """
    try:
        with zipfile.ZipFile(cursor.stream) as archive:
            return _read_members(cursor, archive, PieceReader() if verify else None)
    except UNZIPPABLE as error:
        raise cursor.error(f"no zip that can be read: {error}", at=0) from error


def _read_members(
    cursor: BinaryReader, archive: ZipFile, verifier: PieceReader | None
) -> dict[str, AnyArray]:
    members = archive.infolist()
    if not members:
        raise cursor.error("the file holds no arrays", at=0)
    limit = packed_limit(cursor.storage.size)
    if sum(member.file_size for member in members) > limit:
        raise cursor.error(f"its arrays are said to have more than {limit} bytes", at=0)
    arrays: dict[str, AnyArray] = {}
    for member in members:
        if reason := _refusal(member):
            raise cursor.error(f"{member.filename!r} {reason}", at=max(member.header_offset, 0))
        name = member.filename.removesuffix(SUFFIX)
        if name in arrays:
            raise cursor.error(f"{name!r} occurs twice", at=member.header_offset)
        arrays[name] = _read_member(cursor, archive, member, verifier)
    return arrays


def _refusal(member: ZipInfo) -> str:
    if not member.filename.endswith(SUFFIX):
        return f"is no {SUFFIX}"
    if member.flag_bits & (ENCRYPTED | STRONGLY):
        return "is encrypted"
    if member.flag_bits & PATCH:
        return "is a patch for another"
    if member.compress_type not in METHODS:
        return f"is compressed by method {member.compress_type}, which numpy never uses"
    return "" if member.header_offset >= 0 else "is said to lie before the file begins"


def _read_member(
    cursor: BinaryReader, archive: ZipFile, member: ZipInfo, verifier: PieceReader | None
) -> AnyArray:
    what = names.printable(member.filename)
    local = cursor.at(member.header_offset)
    if member.compress_type != zipfile.ZIP_STORED:
        with archive.open(member) as packed:
            # No more than promised; the checksum is checked at the end.
            content = _unpacked(packed, member.file_size)
        return _read_array(local, bytes(content[:HEAD]), len(content), what, _in_memory(content))
    if local.bytes(len(SIGNATURE), what) != SIGNATURE:
        raise local.error(f"{what}: no member begins here", at=member.header_offset)
    *_, name_length, extra_length = local.take(LOCAL_HEADER, what)
    encoded = member.orig_filename.encode("utf-8" if member.flag_bits & TEXT else "cp437")
    if local.bytes(name_length, what) != encoded or member.compress_size != member.file_size:
        raise local.error(
            f"{what}: the directory says otherwise than its own header", at=member.header_offset
        )
    local.skip(extra_length, what)
    place = cursor.at(local.skip(member.file_size, what))
    stored = FileArray(place.storage, place.offset, BYTES, (member.file_size,))
    if verifier and _checksum(verifier.pieces(stored)) != member.CRC:
        raise place.error(f"{what}: its checksum is not what it should be: the file is damaged")
    head = cursor.at(place.offset).bytes(min(member.file_size, HEAD), what)
    return _read_array(place, head, member.file_size, what, _in_file(place))


def _unpacked(packed: IO[bytes], size: int) -> memoryview:
    """Return up to so many bytes, in memory once; more than are asked for are not read."""
    room = np.empty(size, np.uint8).data
    done = 0
    while chunk := packed.read(min(PIECE, size - done)):
        room[done : done + len(chunk)] = chunk
        done += len(chunk)
    return room[:done]


def _checksum(pieces: Iterable[memoryview]) -> int:
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _in_memory(content: memoryview) -> Take:
    def take(begin: int, dtype: np.dtype[Any], shape: Shape, fortran: bool) -> AnyArray:
        numbers = np.frombuffer(content, dtype, offset=begin)
        return np.ascontiguousarray(numbers.reshape(shape, order="F" if fortran else "C")).reshape(shape)

    return take


def _in_file(place: BinaryReader) -> Take:
    def take(begin: int, dtype: np.dtype[Any], shape: Shape, fortran: bool) -> AnyArray:
        return FileArray(place.storage, place.offset + begin, dtype, shape, fortran)

    return take


def _read_array(place: BinaryReader, head: bytes, size: int, what: str, take: Take) -> AnyArray:
    """Return the array of a .npy of so many bytes, whose first are ``head``."""
    stream = io.BytesIO(head)
    try:
        shape, fortran, dtype = _read_header(stream)
    except UNREADABLE as error:
        raise place.error(f"{what}: {error or type(error).__name__}") from error
    if dtype not in TO_MXNET:
        raise place.error(f"{what} has type {dtype}, which MXNet has not")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=1) < 1:
        raise place.error(f"{what} has the shape {shape}; every dimension must be 1 or more")
    left = size - stream.tell()
    if left != math.prod(shape) * dtype.itemsize:
        raise place.error(f"{what}, {dtype} {shape}, does not fill its {left} bytes")
    return take(stream.tell(), dtype, shape, fortran)


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
