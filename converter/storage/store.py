"""What every store of files offers: listing, reading, and writing of whole files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path


BLOCK = 8 << 20  # bytes that are read or written at once


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a store.

    Attributes:
        name: relative to the store, with ``/`` as the separator.
        size: in bytes.
        version: changes when the content does: an ETag, a checksum or a time; "" if the server sends none.
    """

    name: str
    size: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The contents of a store.

    Attributes:
        entries: the files, sorted by name.
        refused: names that must not be read, with the reason.
    """

    entries: tuple[StoredFile, ...]
    refused: dict[str, str]


class Store(ABC):
    """A folder, or a prefix of a bucket. It can be pickled, and opened again from its URL."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL, without a final slash."""

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """The local folder, None if the store is remote."""

    @abstractmethod
    def listing(self) -> Listing:
        """List everything below the store, in one listing of the server.

        Raises:
            StorageError: if it cannot be listed.
        """

    def entries(self) -> list[StoredFile]:
        """Return the files below the store, sorted, without the refused ones.

        Raises:
            StorageError: if it cannot be listed.
        """
        return list(self.listing().entries)

    @abstractmethod
    def entry(self, name: str) -> StoredFile:
        """Return one file's size and version.

        Raises:
            FileMissingError: if the file does not exist.
            StorageError: if the server refuses the request.
        """

    @abstractmethod
    def fetch(self, name: str, destination: Path) -> StoredFile:
        """Copy a file to a local one, block by block; ``destination`` appears when it is complete.

        Returns:
            What was copied; its version can be newer than the listing's.

        Raises:
            FileMissingError: if the file does not exist.
            StorageError: if it cannot be read completely, or changed meanwhile.
        """

    def read(self, name: str, limit: int) -> bytes:
        """Read a small file.

        Raises:
            FileMissingError: if the file does not exist.
            StorageError: if it has more than ``limit`` bytes, or cannot be read.
        """
        disk.require_size(f"{self.url}/{name}", self.entry(name).size, limit)
        with disk.temp_dir() as folder:
            self.fetch(name, folder / "content")
            return disk.read_small(folder / "content", limit)

    @abstractmethod
    def put(self, name: str, file: Path) -> None:
        """Write a local file to the store, where it replaces one of this name.

        Other processes see the whole file or, also after a failure, what was there before.

        Raises:
            StorageError: if it cannot be written.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, as ``put`` does.

        Raises:
            StorageError: if it cannot be written.
        """
        with disk.temp_dir() as folder:
            file = folder / PurePosixPath(name).name  # clients derive the content type from the name
            with disk.writing(file):
                file.write_bytes(content)
            self.put(name, file)
