"""Provide an unpacked ``.params`` file and its SHA-1, from a file, an archive or arrays.

Files that GluonCV published come from ``gluoncv_zoo``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import SourceError, StorageError
from converter.formats import archives, detect
from converter.formats.kinds import PACKED
from converter.formats.params import write_params
from converter.storage import background, disk

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.progress import Progress
    from converter.sources.hub import HubFile
    from converter.sources.published_file import PublishedFile
    from converter.storage.background import BackgroundCall

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class ParamsFile:
    """A ``.params`` file, with a snapshot from when it was opened.

    Attributes:
        path: the unpacked file.
        user_path: the file that the user named, which may be an archive.
        name: the name of ``user_path`` in the manifest.
        archive: the kind of the archive, None if ``user_path`` is not one.
        stamp: the snapshot of ``user_path``.
        digest: the SHA-1 of the unpacked file, computed in the background.
        documents: the JSON files in the archive, by name.
        class_lists: the lists of class names in the archive, by name.
        hub: the checkpoint on the Hub that the file was rebuilt from, None for any other file.
    """

    path: Path
    user_path: Path
    name: str
    archive: str | None
    stamp: disk.FileSnapshot
    digest: BackgroundCall[str]
    documents: dict[str, bytes] = field(default_factory=dict)
    class_lists: dict[str, bytes] = field(default_factory=dict)
    hub: HubFile | None = None

    @property
    def sha1(self) -> str:
        """The SHA-1 of the unpacked file; waits until it is computed.

        Raises:
            StorageError: if the file cannot be read or has changed.
        """
        return self.digest.result()

    def is_published(self, published: PublishedFile) -> bool:
        """Return whether this is GluonCV's published file of a model; False if there is none."""
        return self.sha1 == published.sha1


def from_file(path: Path, folder: Path, progress: Progress) -> ParamsFile:
    """Open a file; an archive is unpacked into ``folder``.

    Raises:
        StorageError: if the file does not exist or is not a regular file.
        SourceError: if an archive cannot be unpacked.
    """
    detect.require_file(path)
    stamp = disk.snapshot(path)
    name = disk.file_name(path)
    archive = detect.kind(path)
    if archive not in PACKED:
        digest = background.start(lambda: sha1(path, progress, stamp))
        return ParamsFile(path, path, name, None, stamp, digest)
    unpacked = folder / "unpacked.params"
    content = archives.unpack(path, unpacked, progress)
    digest = background.done(content.sha1)
    return ParamsFile(unpacked, path, name, archive, stamp, digest, content.documents, content.class_lists)


def from_arrays(arrays: dict[str, Array], path: Path, progress: Progress) -> ParamsFile:
    """Write arrays to ``path``, and open that file.

    Raises:
        StorageError: if it cannot be written.
    """
    with disk.writing(path), path.open("wb") as stream:
        write_params(stream, arrays)
    return from_file(path, path.parent, progress)


def verify_published_sha1(source: ParamsFile, published: PublishedFile) -> None:
    """Check that a file with a published file's name is that file, and that it has not changed.

    Raises:
        SourceError: if its SHA-1 is not the published one.
        StorageError: if it has changed since it was opened.
    """
    has_published_name = source.user_path.name.startswith(f"{Path(published.name).stem}.")
    if has_published_name and not source.is_published(published):
        raise SourceError(
            f"{source.user_path}: named like GluonCV's published file, but has other contents\n"
            f"  expected SHA-1 {published.sha1}, found {source.sha1}\n"
            "  Download it again, or rename it if it is your own."
        )
    require_unchanged(source)


def require_unchanged(source: ParamsFile) -> None:
    """Check that a file has not changed since it was opened.

    Raises:
        StorageError: if it has.
    """
    disk.require_same(source.stamp, source.user_path)


def sha1(path: Path, progress: Progress, stamp: disk.FileSnapshot | None = None) -> str:
    """Return a file's SHA-1.

    Raises:
        StorageError: if the file cannot be read, or differs from the snapshot ``stamp``.
    """
    digest, done = hashlib.sha1(usedforsecurity=False), 0
    memory = memoryview(bytearray(CHUNK))
    with disk.reading(path), path.open("rb", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        if stamp is not None and disk.snapshot_of(status) != stamp:
            raise StorageError(f"{path}: {disk.CHANGED}")
        total = status.st_size
        while count := stream.readinto(memory):
            digest.update(memory[:count])
            done += count
            progress("reading", done, total)
    return digest.hexdigest()
