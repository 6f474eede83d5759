"""A store that is a local folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import FileMissingError, StorageError
from converter.storage import disk, folders, store_names
from converter.storage.store import BLOCK, Listing, Store, StoredFile

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalStore(Store):
    """A local folder, which need not exist until a file is written."""

    path: Path

    @property
    def url(self) -> str:
        """Return the URL."""
        return self.path.absolute().as_uri()

    @property
    def folder(self) -> Path:
        """Return the local folder."""
        return self.path

    def listing(self) -> Listing:
        """List the store in one listing."""
        contents = folders.read(self.path)
        hidden = store_names.is_temporary
        refused = {name: reason for name, reason in contents.refused.items() if not hidden(name)}
        entries: list[StoredFile] = []
        for name, path in contents.files.items():
            if hidden(name):
                continue
            if reason := store_names.refusal(name):
                refused[name] = reason
            else:
                entries.append(_entry(name, path))
        return Listing(entries=tuple(sorted(entries, key=lambda entry: entry.name)), refused=refused)

    def entry(self, name: str) -> StoredFile:
        """Return one file's size and version."""
        return _entry(name, self._existing(name))

    def fetch(self, name: str, destination: Path) -> StoredFile:
        """Copy a file to a local one, which appears when it is complete."""
        source = self._existing(name)
        with disk.temporary(destination.parent) as part:
            with disk.unchanged(source), disk.reading(source), source.open("rb") as stream:
                entry = _entry(name, source)
                _copy(stream, part, destination)
            with disk.writing(destination):
                part.replace(destination)
        return entry

    def put(self, name: str, file: Path) -> None:
        """Write a local file to the store, whole or not at all."""
        store_names.require_safe(name, self.url)
        destination = self.path / name
        disk.require_regular(file)
        with disk.temporary(destination.parent) as part:
            with disk.unchanged(file), disk.reading(file), file.open("rb") as stream:
                _copy(stream, part, destination)
            disk.place(part, destination, overwrite=True)

    def _existing(self, name: str) -> Path:
        """Return the path of a file in the folder.

        Raises:
            FileMissingError: if it does not exist.
            StorageError: if it is not a regular file, or a link out of the folder.
        """
        store_names.require_safe(name, self.url)
        path = self.path / name
        if not path.exists():
            raise FileMissingError(f"{path}: not found")
        if reason := folders.refusal(path, self.path):
            raise StorageError(f"{path}: {reason}")
        disk.require_regular(path)
        return path


def _entry(name: str, path: Path) -> StoredFile:
    status = disk.require_regular(path)
    # Programs can set the mtime back, but not the ctime.
    version = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return StoredFile(name=name, size=status.st_size, version=version)


def _copy(stream: BinaryIO, part: Path, destination: Path) -> None:
    """Copy an open file; errors of writing name ``destination``."""
    with disk.writing(destination), part.open("wb") as output:
        shutil.copyfileobj(stream, output, BLOCK)
