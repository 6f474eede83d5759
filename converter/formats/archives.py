"""Unpack the one ``.params`` of an archive to a file.

The archives are gzip (DJL), zip (GluonCV's downloads, ``.mar``), tar and tar.gz (SageMaker). The npz of
MXNet 2 is a zip too, but a container of arrays: it is read without unpacking it to a file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from converter import names
from converter.errors import SourceError
from converter.formats import detect
from converter.formats.detect import FORKS, GRAPH_SUFFIX, PARAMS_SUFFIX, UNZIPPABLE
from converter.formats.kinds import Kind
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.progress import Progress

RESOURCE_FORK = "._"  # file name prefix of those that macOS adds to a tar
ENCRYPTED = 0x1
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may return more than the requested size
GZIP_SIZE_BYTES = 4  # at the end of a gzip: the size of its contents, modulo 4 GB
CHUNK = 1 << 20
MAX_PARAMS_BYTES = 1 << 31  # the largest published file has 0.5 GB; a larger one is not a model
MAX_RATIO = 100  # trained weights hardly compress, initial ones to a hundredth
SMALL = 1 << 26
MAX_MEMBERS = 10_000  # of a tar
MAX_DOCUMENT_BYTES = 1 << 22  # of one JSON file in an archive; a graph has less than 1 MB
MAX_DOCUMENTS_BYTES = 1 << 24  # of all JSON files and lists of class names in an archive
# The names that MXNet's model server, SageMaker and their users give lists of class names, best first.
CLASS_LISTS = ("synset.txt", "classes.txt", "labels.txt", "class_names.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The contents of an archive.

    Attributes:
        sha1: the SHA-1 of its ``.params``.
        documents: its JSON objects of at most ``MAX_DOCUMENT_BYTES``, by their names in the archive.
        class_lists: its lists of class names, likewise.
    """

    sha1: str
    documents: dict[str, bytes] = field(default_factory=dict)
    class_lists: dict[str, bytes] = field(default_factory=dict)


def unpack(path: Path, destination: Path, progress: Progress) -> Unpacked:
    """Unpack the one ``.params`` of an archive to ``destination``.

    Raises:
        SourceError: if the archive is damaged or encrypted, exceeds a limit, or does not contain exactly
            one ``.params``.
        StorageError: if ``path`` cannot be read, or ``destination`` cannot be written.
    """
    try:
        archive, size = detect.kind(path), path.stat().st_size
        if archive is Kind.gzip:
            with gzip.open(path) as stream:
                return Unpacked(sha1=_copy(path, stream, destination, packed_limit(size), progress))
        if archive is Kind.tar:
            with path.open("rb") as stream:
                return _untar(path, stream, size, destination, progress)
        if archive is Kind.tar_gz:
            with gzip.open(path) as stream:
                return _untar(path, cast("BinaryIO", stream), packed_limit(size), destination, progress)
        return _unzip(path, destination, progress)
    except UNZIPPABLE as error:
        raise _unpack_error(path, error) from error


def unpacked_size(path: Path) -> int:
    """Return the size that an archive declares for its contents; the real one may differ.

    Raises:
        SourceError: if the archive is damaged, or a zip does not contain exactly one ``.params``.
    """
    try:
        kind, size = detect.kind(path), path.stat().st_size
        if kind is Kind.zip:
            with zipfile.ZipFile(path) as archive:
                return _params(path, archive).file_size
        if kind is Kind.tar:
            return size
        with path.open("rb") as stream:
            stream.seek(max(0, size - GZIP_SIZE_BYTES))
            return max(size, int.from_bytes(stream.read(), "little"))
    except UNZIPPABLE as error:
        raise _unpack_error(path, error) from error


def packed_limit(size: int) -> int:
    """Return the maximum unpacked size of an archive of ``size`` bytes."""
    return min(MAX_PARAMS_BYTES, max(SMALL, MAX_RATIO * size))


def _unzip(path: Path, destination: Path, progress: Progress) -> Unpacked:
    with zipfile.ZipFile(path) as archive:
        params = _params(path, archive)
        if params.compress_type not in METHODS:
            raise SourceError(
                f"{path}: unsupported compression method {params.compress_type}; expected stored or deflated"
            )
        if params.file_size > packed_limit(path.stat().st_size):
            raise SourceError(
                f"{path}: its {PARAMS_SUFFIX} declares {params.file_size} bytes; "
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
        with archive.open(params) as source:
            sha1 = _copy(path, source, destination, params.file_size, progress)
        return documents.unpacked(sha1)


def _params(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one ``.params`` of a zip.

    Raises:
        SourceError: if there is none, or more than one.
    """
    members = [member for member in archive.infolist() if detect.is_params(member.filename)]
    if len(members) != 1:
        raise _count_error(path, "zip", [member.filename for member in members])
    return members[0]


def _untar(path: Path, stream: BinaryIO, limit: int, destination: Path, progress: Progress) -> Unpacked:
    """Read a tar in one pass, without its links and sparse files."""
    sha1, params, documents, count = "", [], _Documents(path), 0
    reader = _LimitedStream(path, stream, limit)
    with contextlib.closing(tarfile.open(fileobj=cast("BinaryIO", reader), mode="r:")) as archive:
        while (member := archive.next()) is not None:
            count += 1
            if count > MAX_MEMBERS:  # tarfile keeps them all in memory
                raise SourceError(f"{path}: contains more than {MAX_MEMBERS} members")
            source = archive.extractfile(member) if member.isfile() and not member.issparse() else None
            if source is None or PurePosixPath(member.name).name.startswith(RESOURCE_FORK):
                continue
            if not member.name.endswith(PARAMS_SUFFIX):
                documents.add(member.name, member.size, source)
                continue
            params.append(member.name)
            if len(params) == 1:
                sha1 = _copy(path, source, destination, member.size, progress)
        rest = reader.last  # the block at which tarfile stopped: the end of the tar, or a damaged header
        while rest:  # to the end, because a gzip has its checksum there
            if rest.strip(b"\0"):
                raise SourceError(
                    f"{path}: cannot be unpacked: damaged header, or data after the end of the tar"
                )
            rest = reader.read(CHUNK)
    if len(params) != 1:
        raise _count_error(path, "tar", params)
    return documents.unpacked(sha1)


def _count_error(path: Path, kind: str, params: list[str]) -> SourceError:
    """Return the error for an archive with no or several ``.params``, which lists them."""
    headline = f"{path}: expected a {kind} with exactly one {PARAMS_SUFFIX}, found {len(params)}"
    step = "unpack the archive, and pass the one that you mean" if params else ""
    printable = [name.encode(errors="surrogateescape").decode(errors="replace") for name in params]
    lines = [headline, *names.shorten(printable, detect.MAX_LISTED), step]
    return SourceError("\n  ".join(filter(None, lines)))


class _Documents:
    """Collects the JSON objects and the lists of class names of an archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents: dict[str, bytes] = {}

    def unpacked(self, sha1: str) -> Unpacked:
        """Return the contents of the archive with the SHA-1 of its ``.params``."""
        lists = {name: content for name, content in self.contents.items() if _is_class_list(name)}
        documents = {name: content for name, content in self.contents.items() if name not in lists}
        return Unpacked(sha1=sha1, documents=documents, class_lists=lists)

    def add(self, name: str, size: int, source: _Readable) -> None:
        """Read a member if it is a JSON object, a graph or a list of class names; ignore all others.

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
        if begin.lstrip()[:1] != b"{" and not is_graph and not _is_class_list(name):
            return
        if name in self.contents:
            raise SourceError(f"{self.path}: contains {name!r} twice")
        rest = [source.read(min(CHUNK, size - place)) for place in range(len(begin), size, CHUNK)]
        self.contents[name] = begin + b"".join(rest)
        if sum(map(len, self.contents.values())) > MAX_DOCUMENTS_BYTES:
            raise SourceError(f"{self.path}: contains more than {MAX_DOCUMENTS_BYTES} bytes of JSON")


def class_list_rank(member: str) -> tuple[int, int, str]:
    """Return a sorting key of lists of class names: the best name first, then the fewest folders."""
    path = PurePosixPath(member)
    return CLASS_LISTS.index(path.name), len(path.parts), member


def _is_class_list(name: str) -> bool:
    return PurePosixPath(name).name in CLASS_LISTS


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
