"""Packed ``.params``: gzip, as DJL serves them, and the zips of GluonCV's own downloads. Unpacked to a file.

An archive is no container of arrays: MXNet 2's npz, though a zip too, is read as it is.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Protocol

from converter.errors import SourceError
from converter.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.progress import Progress

GZIP, ZIP = "gzip", "zip"
GZIP_SIGNATURE, ZIP_SIGNATURE = b"\x1f\x8b", b"PK\x03\x04"
SUFFIX = ".params"
OTHERS = (".npy", "data.pkl")  # by which npz and .pth are known
METHOD = 8  # where the first member says how it is compressed
FORKS = "__MACOSX/"  # what macOS puts beside the files of a zip
ENCRYPTED = 0x1
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others unpack more at once than one asks for
CHUNK = 1 << 20
MAX_PARAMS_BYTES = 1 << 31  # the largest published file has 0.5 GB; an archive that promises more is no model
MAX_RATIO = 100  # trained weights hardly shrink at all, fresh ones to a hundredth
SMALL = 1 << 26
# What zipfile and gzip raise at archives that are damaged, encrypted or not archives at all.
UNZIPPABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
)


def kind(path: Path) -> str | None:
    """Return which archive of one ``.params`` this is, or None where it is none.

    Errors: ``SourceError`` where it cannot be read, or would be read as something else by other programs.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(METHOD + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if begin.startswith(GZIP_SIGNATURE):
        return GZIP
    is_zip = begin.startswith(ZIP_SIGNATURE) and begin[METHOD:] != b"{"  # with which a safetensors goes on
    return ZIP if is_zip and _holds_params(path) else None


def unpack(path: Path, destination: Path, progress: Progress) -> str:
    """Unpack the one ``.params`` of an archive, and return its SHA-1.

    Errors: ``SourceError`` for anything else than such an archive, whole, not encrypted and no bomb;
    ``ArtifactError`` where ``destination`` cannot be written.
    """
    try:
        if kind(path) == GZIP:
            with gzip.open(path) as packed:
                return _copy(path, packed, destination, packed_limit(path.stat().st_size), progress)
        return _unzip(path, destination, progress)
    except UNZIPPABLE as error:
        raise _damaged(path, error) from error


def packed_limit(size: int) -> int:
    """Return how many bytes an archive of this size may unpack to."""
    return min(MAX_PARAMS_BYTES, max(SMALL, MAX_RATIO * size))


def _unzip(path: Path, destination: Path, progress: Progress) -> str:
    with zipfile.ZipFile(path) as archive:
        members = _params(archive)
        if len(members) != 1:
            raise SourceError(f"{path}: a zip with one {SUFFIX} expected, {len(members)} found")
        if members[0].compress_type not in METHODS:
            raise SourceError(
                f"{path}: compressed by method {members[0].compress_type}; stored or deflated expected"
            )
        if members[0].file_size > packed_limit(path.stat().st_size):
            raise SourceError(f"{path}: its {SUFFIX} is said to have {members[0].file_size} bytes")
        with archive.open(members[0]) as packed:
            return _copy(path, packed, destination, members[0].file_size, progress)


def _holds_params(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            found = bool(_params(archive))
            others = [name for name in archive.namelist() if name.endswith(OTHERS)]
    except UNZIPPABLE:  # whoever reads it as something else will say what is wrong
        return False
    if found and others:
        raise SourceError(f"{path}: a zip of a {SUFFIX} and of {others[0]!r}, which can be read in two ways")
    return found


def _params(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [
        member
        for member in archive.infolist()
        if member.filename.endswith(SUFFIX) and not member.filename.startswith(FORKS)
    ]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _chunks(path: Path, packed: _Readable) -> Iterator[bytes]:
    """Read what is packed. Errors: ``SourceError``, so that none looks as if the writing had failed."""
    try:
        while chunk := packed.read(CHUNK):
            yield chunk
    except UNZIPPABLE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: cannot be unpacked: {getattr(error, 'strerror', None) or error}")


def _copy(path: Path, packed: _Readable, destination: Path, limit: int, progress: Progress) -> str:
    digest, written = hashlib.sha1(usedforsecurity=False), 0
    with disk.explained(destination), destination.open("wb") as unpacked:
        for chunk in _chunks(path, packed):
            written += len(chunk)
            if written > limit:
                raise SourceError(f"{path}: unpacks to more than {limit} bytes")
            digest.update(chunk)
            unpacked.write(chunk)
            progress("unpacking", min(written, limit), limit)
    return digest.hexdigest()
