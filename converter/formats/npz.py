"""Read the npz container of MXNet 2's ``.params`` files, a zip with a ``.npy`` for each array.

Stored members stay in the file; compressed ones are unpacked into memory.
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
from converter.formats.archives import ENCRYPTED, METHODS, packed_limit
from converter.formats.binary_reader import MAX_DIMENSIONS, BinaryReader
from converter.formats.detect import UNZIPPABLE, ZIP_SIGNATURE
from converter.formats.file_arrays import PIECE, FileArray, PieceReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from zipfile import ZipFile, ZipInfo

    from converter.formats.file_arrays import AnyArray

    Shape = tuple[int, ...]
    # Arguments: offset of the values in the .npy, type, shape, whether the first axis varies fastest.
    MakeArray = Callable[[int, np.dtype[Any], Shape, bool], AnyArray]

SUFFIX = ".npy"
LOCAL_HEADER = "<5H3I2H"  # after its signature; it ends with the lengths of the name and the extra field
MAX_HEADER_BYTES = 10_000  # of a .npy; numpy's own limit
HEAD = MAX_HEADER_BYTES + npy.MAGIC_LEN + 4  # of a .npy; a header ends within them
BYTES = np.dtype(np.uint8)
PATCH, STRONGLY = 0x20, 0x40  # flags of patches and strong encryption; zipfile refuses them too
TEXT = 0x800  # the flag of names in UTF-8
# Exceptions of numpy at invalid headers, and its warning of headers written by Python 2.
UNREADABLE = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError, UserWarning)


def read(cursor: BinaryReader, *, verify: bool) -> dict[str, AnyArray]:
    """Return the arrays by name, in file order, without reading the values of stored members.

    Args:
        cursor: a reader of the file.
        verify: whether to verify every checksum, which reads the whole file.

    Raises:
        ParamsError: if the file is malformed, with the byte offset of the member.
    """
    try:
        with zipfile.ZipFile(cursor.stream) as archive:
            return _read_members(cursor, archive, PieceReader() if verify else None)
    except UNZIPPABLE as error:
        raise cursor.error(f"cannot be read as a zip: {error}", at=0) from error


def _read_members(
    cursor: BinaryReader, archive: ZipFile, verifier: PieceReader | None
) -> dict[str, AnyArray]:
    members = archive.infolist()
    if not members:
        raise cursor.error("the file contains no arrays", at=0)
    limit = packed_limit(cursor.storage.size)
    if sum(member.file_size for member in members) > limit:
        raise cursor.error(f"its arrays declare more than {limit} bytes", at=0)
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
        return f"is not a {SUFFIX}"
    if member.flag_bits & (ENCRYPTED | STRONGLY):
        return "is encrypted"
    if member.flag_bits & PATCH:
        return "is a patch of another file"
    if member.compress_type not in METHODS:
        return f"has the unsupported compression method {member.compress_type}"
    return "" if member.header_offset >= 0 else "has an offset before the beginning of the file"


def _read_member(
    cursor: BinaryReader, archive: ZipFile, member: ZipInfo, verifier: PieceReader | None
) -> AnyArray:
    what = names.printable(member.filename)
    local = cursor.at(member.header_offset)
    if member.compress_type != zipfile.ZIP_STORED:
        with archive.open(member) as stream:
            # At most the declared size; zipfile verifies the checksum at the end.
            content = _read_up_to(stream, member.file_size)
        return _read_array(local, bytes(content[:HEAD]), len(content), what, _in_memory(content))
    if local.bytes(len(ZIP_SIGNATURE), what) != ZIP_SIGNATURE:
        raise local.error(f"{what}: no member header at its offset", at=member.header_offset)
    *_, name_length, extra_length = local.take(LOCAL_HEADER, what)
    encoded = member.orig_filename.encode("utf-8" if member.flag_bits & TEXT else "cp437")
    if local.bytes(name_length, what) != encoded or member.compress_size != member.file_size:
        raise local.error(f"{what}: its header contradicts the directory of the zip", at=member.header_offset)
    local.skip(extra_length, what)
    place = cursor.at(local.skip(member.file_size, what))
    stored = FileArray(place.storage, place.offset, BYTES, (member.file_size,))
    if verifier and _checksum(verifier.pieces(stored)) != member.CRC:
        raise place.error(f"{what}: wrong checksum: the file is damaged")
    head = cursor.at(place.offset).bytes(min(member.file_size, HEAD), what)
    return _read_array(place, head, member.file_size, what, _in_file(place))


def _read_up_to(stream: IO[bytes], size: int) -> memoryview:
    """Read at most ``size`` bytes into one buffer."""
    buffer = np.empty(size, np.uint8).data
    done = 0
    while chunk := stream.read(min(PIECE, size - done)):
        buffer[done : done + len(chunk)] = chunk
        done += len(chunk)
    return buffer[:done]


def _checksum(pieces: Iterable[memoryview]) -> int:
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _in_memory(content: memoryview) -> MakeArray:
    def make_array(begin: int, dtype: np.dtype[Any], shape: Shape, fortran: bool) -> AnyArray:
        flat = np.frombuffer(content, dtype, offset=begin)
        return np.ascontiguousarray(flat.reshape(shape, order="F" if fortran else "C")).reshape(shape)

    return make_array


def _in_file(place: BinaryReader) -> MakeArray:
    def make_array(begin: int, dtype: np.dtype[Any], shape: Shape, fortran: bool) -> AnyArray:
        return FileArray(place.storage, place.offset + begin, dtype, shape, fortran)

    return make_array


def _read_array(place: BinaryReader, head: bytes, size: int, what: str, make_array: MakeArray) -> AnyArray:
    """Return the array of a .npy of ``size`` bytes that begins with ``head``."""
    stream = io.BytesIO(head)
    try:
        shape, fortran, dtype = _read_header(stream)
    except UNREADABLE as error:
        raise place.error(f"{what}: {error or type(error).__name__}") from error
    if dtype not in TO_MXNET:
        raise place.error(f"{what} has type {dtype}, which MXNet does not support")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=1) < 1:
        raise place.error(f"{what} has the shape {shape}; every dimension must be at least 1")
    data_size = size - stream.tell()
    if data_size != math.prod(shape) * dtype.itemsize:
        raise place.error(f"{what}, {dtype} {shape}, does not match its size of {data_size} bytes")
    return make_array(stream.tell(), dtype, shape, fortran)


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy.

    Raises:
        ValueError: if the header is invalid; numpy also raises the others of ``UNREADABLE``.
    """
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"unsupported .npy version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        shape, fortran, dtype = readers[version](stream)
    if any(isinstance(length, bool) for length in shape):  # accepted in a header, but not as a shape
        raise ValueError(f"invalid shape {shape}")
    return shape, fortran, dtype
