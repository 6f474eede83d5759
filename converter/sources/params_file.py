"""Where the bytes come from: a file, or arrays made here; those that GluonCV published are ``published``'s.

What goes out is a ``.params`` file on disk, unpacked if it came in an archive, and its SHA-1.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import SourceError
from converter.formats import archives
from converter.formats.params import write_params
from converter.storage import background, disk

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.progress import Progress
    from converter.sources.published_file import PublishedFile

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class ParamsFile:
    """A ``.params`` file as it was when it was opened; its SHA-1 is computed beside whatever else is done.

    ``path`` is the file itself, ``origin`` what was named, which may be an ``archive`` of it; ``name`` is
    what the manifest calls that. ``documents`` are the JSON files in the archive, by name.
    """

    path: Path
    origin: Path
    name: str
    archive: str | None
    stamp: disk.FileSnapshot
    digest: Future[str]
    documents: dict[str, bytes] = field(default_factory=dict)

    @property
    def sha1(self) -> str:
        """Its SHA-1, unpacked; waited for.

        Errors: ``SourceError`` where the file cannot be read.
        """
        return self.digest.result()

    def is_published(self, published: PublishedFile) -> bool:
        """Return whether it is the file that GluonCV published of a model; of some it published none."""
        return self.sha1 == published.sha1


def from_file(path: Path, folder: Path, progress: Progress) -> ParamsFile:
    """Take a file of the user's; an archive is unpacked into ``folder``.

    Errors: ``SourceError`` where there is none, or what is packed cannot be unpacked.
    """
    stamp = disk.snapshot(path, SourceError)
    name = disk.file_name(path)
    archive = archives.kind(path)
    if archive is None:
        digest = background.start(lambda: sha1(path, progress, stamp))
        return ParamsFile(path, path, name, None, stamp, digest)
    unpacked = folder / "unpacked.params"
    content = archives.unpack(path, unpacked, progress)
    digest = Future()
    digest.set_result(content.sha1)
    return ParamsFile(unpacked, path, name, archive, stamp, digest, content.documents)


def from_arrays(arrays: dict[str, Array], path: Path, progress: Progress) -> ParamsFile:
    """Write parameters made here to ``path``, and take that file.

    Errors: ``SourceError`` where it cannot be written.
    """
    try:
        with path.open("wb") as stream:
            write_params(stream, arrays)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return from_file(path, path.parent, progress)


def verify_published_sha1(source: ParamsFile, published: PublishedFile) -> None:
    """Refuse a file that is not what it was when it was opened, or not what its name says.

    Errors: ``SourceError``.
    """
    named = source.origin.name.startswith(f"{Path(published.name).stem}.")
    if named and not source.is_published(published):
        raise SourceError(
            f"{source.origin}: SHA-1 {published.sha1} expected, {source.sha1} found\n"
            "  It bears the published file's name and is not that file: damaged, or to be renamed."
        )
    require_unchanged(source)


def require_unchanged(source: ParamsFile) -> None:
    """Refuse a file that is not what it was when it was opened.

    Errors: ``SourceError``.
    """
    if disk.snapshot(source.origin, SourceError) != source.stamp:
        raise SourceError(f"{source.origin}: {disk.CHANGED}")


def sha1(path: Path, progress: Progress, stamp: disk.FileSnapshot | None = None) -> str:
    """Return a file's SHA-1.

    Errors: ``SourceError`` where it cannot be read, or is not the one of the ``stamp``.
    """
    digest, done = hashlib.sha1(usedforsecurity=False), 0
    memory = memoryview(bytearray(CHUNK))
    try:
        with path.open("rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if stamp is not None and disk.snapshot_of(status) != stamp:
                raise SourceError(f"{path}: {disk.CHANGED}")
            total = status.st_size
            while count := stream.readinto(memory):
                digest.update(memory[:count])
                done += count
                progress("reading", done, total)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return digest.hexdigest()
