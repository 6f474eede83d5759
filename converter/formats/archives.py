"""Unpack the one ``.params`` of an archive to a file.

The archives are gzip (DJL), zip (GluonCV's downloads, ``.mar``), tar and tar.gz (SageMaker). The npz of
MXNet 2 is a zip too, but a container of arrays: it is read without unpacking it to a file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from converter.errors import SourceError
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.progress import Progress

GZIP, ZIP, TAR, TAR_GZ = "gzip", "zip", "tar", "tar.gz"
GZIP_SIGNATURE, ZIP_SIGNATURE = b"\x1f\x8b", b"PK\x03\x04"
SUFFIX = ".params"
GRAPH_SUFFIX = "-symbol.json"  # the end of the file name that MXNet gives a graph
OTHERS = (".npy", "data.pkl")  # members that identify npz and .pth
METHOD = 8  # offset of the first member's compression method
FORKS = "__MACOSX/"  # folder of the resource forks that macOS adds to a zip
RESOURCE_FORK = "._"  # file name prefix of those that macOS adds to a tar
ENCRYPTED = 0x1
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may return more than the requested size
CHUNK = 1 << 20
MAX_PARAMS_BYTES = 1 << 31  # the largest published file has 0.5 GB; a larger one is not a model
MAX_RATIO = 100  # trained weights hardly compress, initial ones to a hundredth
SMALL = 1 << 26
MAX_MEMBERS = 10_000  # of a tar
MAX_DOCUMENT_BYTES = 1 << 22  # of one JSON file in an archive; a graph has less than 1 MB
MAX_DOCUMENTS_BYTES = 1 << 24  # of all JSON files in an archive
# Exceptions of zipfile, tarfile and gzip if a file is damaged, encrypted or not an archive.
UNZIPPABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The contents of an archive.

    Attributes:
        sha1: the SHA-1 of its ``.params``.
        documents: its JSON objects of at most ``MAX_DOCUMENT_BYTES``, by their names in the archive.
    """

    sha1: str
    documents: dict[str, bytes] = field(default_factory=dict)


def kind(path: Path) -> str | None:
    """Return the kind of an archive of one ``.params``, or None for any other file.

    Raises:
        SourceError: if it could also be read as an npz or a ``.pth``.
        StorageError: if the file cannot be read.
    """
    with disk.reading(path), path.open("rb") as stream:
        begin = stream.read(tarfile.BLOCKSIZE)
    if begin.startswith(GZIP_SIGNATURE):
        return TAR_GZ if _is_tar(_unzipped_begin(path)) else GZIP
    if _is_tar(begin):
        return TAR
    is_zip = begin.startswith(ZIP_SIGNATURE) and begin[METHOD : METHOD + 1] != b"{"  # else a safetensors
    return ZIP if is_zip and _holds_params(path) else None


def unpack(path: Path, destination: Path, progress: Progress) -> Unpacked:
    """Unpack the one ``.params`` of an archive to ``destination``.

    Raises:
        SourceError: if the archive is damaged or encrypted, exceeds a limit, or does not contain exactly
            one ``.params``.
        StorageError: if ``path`` cannot be read, or ``destination`` cannot be written.
    """
    try:
        archive, size = kind(path), path.stat().st_size
        if archive == GZIP:
            with gzip.open(path) as stream:
                return Unpacked(sha1=_copy(path, stream, destination, packed_limit(size), progress))
        if archive == TAR:
            with path.open("rb") as stream:
                return _untar(path, stream, size, destination, progress)
        if archive == TAR_GZ:
            with gzip.open(path) as stream:
                return _untar(path, cast("BinaryIO", stream), packed_limit(size), destination, progress)
        return _unzip(path, destination, progress)
    except UNZIPPABLE as error:
        raise _unpack_error(path, error) from error


def packed_limit(size: int) -> int:
    """Return the maximum unpacked size of an archive of ``size`` bytes."""
    return min(MAX_PARAMS_BYTES, max(SMALL, MAX_RATIO * size))


def _unzip(path: Path, destination: Path, progress: Progress) -> Unpacked:
    with zipfile.ZipFile(path) as archive:
        members = _params(archive)
        if len(members) != 1:
            raise SourceError(f"{path}: expected a zip with exactly one {SUFFIX}, found {len(members)}")
        if members[0].compress_type not in METHODS:
            raise SourceError(
                f"{path}: unsupported compression method {members[0].compress_type}; "
                "expected stored or deflated"
            )
        if members[0].file_size > packed_limit(path.stat().st_size):
            raise SourceError(
                f"{path}: its {SUFFIX} declares {members[0].file_size} bytes; "
                f"the limit is {packed_limit(path.stat().st_size)}"
            )
        documents = _Documents(path)
        for member in archive.infolist():
            if member.compress_type in METHODS and not member.flag_bits & ENCRYPTED:
                with archive.open(member) as source:
                    documents.add(member.filename, member.file_size, source)
            elif member.filename.endswith(GRAPH_SUFFIX) and not member.filename.startswith(FORKS):
                raise SourceError(
                    f"{path}: {member.filename!r} is encrypted or has an unsupported compression"
                )
        with archive.open(members[0]) as source:
            sha1 = _copy(path, source, destination, members[0].file_size, progress)
        return Unpacked(sha1=sha1, documents=documents.contents)


def _untar(path: Path, stream: BinaryIO, limit: int, destination: Path, progress: Progress) -> Unpacked:
    """Read a tar in one pass, without its links and sparse files."""
    sha1, documents, count = "", _Documents(path), 0
    reader = _LimitedStream(path, stream, limit)
    with contextlib.closing(tarfile.open(fileobj=cast("BinaryIO", reader), mode="r:")) as archive:
        while (member := archive.next()) is not None:
            count += 1
            if count > MAX_MEMBERS:  # tarfile keeps them all in memory
                raise SourceError(f"{path}: contains more than {MAX_MEMBERS} members")
            source = archive.extractfile(member) if member.isfile() and not member.issparse() else None
            if source is None or PurePosixPath(member.name).name.startswith(RESOURCE_FORK):
                continue
            if not member.name.endswith(SUFFIX):
                documents.add(member.name, member.size, source)
            elif sha1:
                raise SourceError(f"{path}: expected a tar with exactly one {SUFFIX}, found more")
            else:
                sha1 = _copy(path, source, destination, member.size, progress)
        rest = reader.last  # the block at which tarfile stopped: the end of the tar, or a damaged header
        while rest:  # to the end, because a gzip has its checksum there
            if rest.strip(b"\0"):
                raise SourceError(
                    f"{path}: cannot be unpacked: damaged header, or data after the end of the tar"
                )
            rest = reader.read(CHUNK)
    if not sha1:
        raise SourceError(f"{path}: expected a tar with exactly one {SUFFIX}, found none")
    return Unpacked(sha1=sha1, documents=documents.contents)


class _Documents:
    """Collects the JSON objects of an archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents: dict[str, bytes] = {}

    def add(self, name: str, size: int, source: _Readable) -> None:
        """Read a member if it is a JSON object or a graph; ignore all others.

        Raises:
            SourceError: if a graph is too large, or two members have one name.
        """
        name = name.encode(errors="surrogateescape").decode(errors="replace")
        is_graph = name.endswith(GRAPH_SUFFIX)
        if name.startswith(FORKS) or (not 0 < size <= MAX_DOCUMENT_BYTES and not is_graph):
            return
        if size > MAX_DOCUMENT_BYTES:
            raise SourceError(f"{self.path}: {name!r} has {size} bytes; the limit is {MAX_DOCUMENT_BYTES}")
        begin = source.read(min(size, tarfile.BLOCKSIZE))
        if begin.lstrip()[:1] != b"{" and not is_graph:
            return
        if name in self.contents:
            raise SourceError(f"{self.path}: contains {name!r} twice")
        rest = [source.read(min(CHUNK, size - place)) for place in range(len(begin), size, CHUNK)]
        self.contents[name] = begin + b"".join(rest)
        if sum(map(len, self.contents.values())) > MAX_DOCUMENTS_BYTES:
            raise SourceError(f"{self.path}: contains more than {MAX_DOCUMENTS_BYTES} bytes of JSON")


class _LimitedStream:
    """A stream that refuses long headers and reading beyond a limit; ``last`` is the block read last."""

    def __init__(self, path: Path, stream: BinaryIO, limit: int) -> None:
        self.path = path
        self.stream = stream
        self.limit = limit
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > CHUNK:
            raise SourceError(f"{self.path}: declares a header of {size} bytes; the limit is {CHUNK}")
        self.last = self.stream.read(size)
        self._require_within()
        return self.last

    def seek(self, place: int) -> int:
        self.stream.seek(place)
        self._require_within()
        return place

    def tell(self) -> int:
        return self.stream.tell()

    def _require_within(self) -> None:
        if self.stream.tell() > self.limit:
            raise SourceError(f"{self.path}: unpacks to more than {self.limit} bytes")


def _is_tar(begin: bytes) -> bool:
    """Return whether the first bytes of a file are a tar header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(begin, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unzipped_begin(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(tarfile.BLOCKSIZE)
    except UNZIPPABLE:  # reported when the file is unpacked
        return b""


def _holds_params(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            has_params = bool(_params(archive))
            others = [name for name in archive.namelist() if name.endswith(OTHERS)]
    except UNZIPPABLE:  # reported by the reader of another format
        return False
    if has_params and others:
        raise SourceError(f"{path}: ambiguous zip: contains both a {SUFFIX} and {others[0]!r}")
    return has_params


def _params(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [
        member
        for member in archive.infolist()
        if member.filename.endswith(SUFFIX) and not member.filename.startswith(FORKS)
    ]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _chunks(path: Path, source: _Readable) -> Iterator[bytes]:
    """Read an archive member in chunks.

    Raises:
        SourceError: if it is damaged; an ``OSError`` would be reported as a failure of the output.
    """
    try:
        while chunk := source.read(CHUNK):
            yield chunk
    except UNZIPPABLE as error:
        raise _unpack_error(path, error) from error


def _unpack_error(path: Path, error: Exception) -> SourceError:
    reason = disk.os_reason(error) if isinstance(error, OSError) else error
    return SourceError(f"{path}: cannot be unpacked: {reason}")


def _copy(path: Path, source: _Readable, destination: Path, limit: int, progress: Progress) -> str:
    digest, size = hashlib.sha1(usedforsecurity=False), 0
    with disk.writing(destination), destination.open("wb") as output:
        for chunk in _chunks(path, source):
            size += len(chunk)
            if size > limit:
                raise SourceError(f"{path}: unpacks to more than {limit} bytes")
            digest.update(chunk)
            output.write(chunk)
            progress("unpacking", min(size, limit), limit)
    return digest.hexdigest()
