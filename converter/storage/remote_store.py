"""A store that one of fsspec's clients reads and writes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from converter.errors import StorageError, UsageError
from converter.storage import clients, disk, locks, store_names, transfers
from converter.storage.store import BLOCK, Listing, Store, StoredFile

if TYPE_CHECKING:
    from pathlib import Path

# In the answers of s3fs, gcsfs, adlfs, huggingface_hub, web servers, and sftp and others, in this order.
VERSIONS = (
    *("ETag", "etag", "generation", "blob_id", "Content-MD5", "Digest"),
    *("Last-Modified", "last_modified", "mtime", "modified", "created"),
)


@dataclass(frozen=True, slots=True)
class RemoteStore(Store):
    """A prefix of a bucket or the like.

    The client is not part of the store: fsspec keeps one for each process and thread.
    """

    location: str

    @property
    def url(self) -> str:
        """Return the URL."""
        return self.location

    @property
    def folder(self) -> None:
        """Return None: the store is remote."""
        return None

    @property
    def scheme(self) -> str:
        """The scheme of the URL, which selects the client."""
        return store_names.scheme(self.location)

    @property
    def client(self) -> clients.Client:
        """How the client is used."""
        return clients.client(self.scheme)

    def require_client(self) -> None:
        """Check that the client is installed.

        Raises:
            UsageError: if the scheme is unknown.
            StorageError: if a package is missing.
        """
        clients.require_installed(self.scheme)

    def listing(self) -> Listing:
        """List the store in one listing."""
        if self.scheme in store_names.WEB:
            return Listing(entries=(self.entry(self._only()),), refused={})
        place = store_names.public(self.location)
        found: dict[str, dict[str, Any]] = transfers.run(self._find, place, self.client)
        entries, refused = [], {}
        for name, information in found.items():
            if information["type"] == "directory" or name.endswith("/") or store_names.is_temporary(name):
                continue
            if not name:
                raise UsageError(f"{place}: a file; expected a folder or a prefix")
            if reason := _refusal(name):
                refused[name] = reason
            else:
                entries.append(_entry(name, information))
        return Listing(entries=tuple(sorted(entries, key=lambda entry: entry.name)), refused=refused)

    def entry(self, name: str) -> StoredFile:
        """Return one file's size and version."""
        return transfers.run(lambda: self._information(name), self._place(name), self.client)

    def fetch(self, name: str, destination: Path) -> StoredFile:
        """Copy a file to a local one, which appears when it is complete."""
        place = self._place(name)
        with disk.temporary(destination.parent) as part:
            entry = transfers.run(lambda: self._download(name, part), place, self.client)
            with disk.writing(destination):
                part.replace(destination)
        return entry

    def put(self, name: str, file: Path) -> None:
        """Write a local file to the store, whole or not at all."""
        place = self._place(name)
        if not self.client.writable:
            raise UsageError(f"{place}: {self.scheme}:// can only be read")
        with disk.unchanged(file):
            transfers.run(lambda: self._upload(name, file), place, self.client)

    def _open(self) -> tuple[Any, str]:
        """Return the client and the path of the store in it."""
        import fsspec  # noqa: PLC0415 - only remote stores need it

        client, path = fsspec.core.url_to_fs(self.location, **clients.options(self.scheme))
        return client, path.rstrip("/")

    def _find(self) -> dict[str, dict[str, Any]]:
        """List the store; names are relative to it."""
        client, root = self._open()
        found = client.find(root, detail=True)
        return {name.removeprefix(root).removeprefix("/"): each for name, each in found.items()}

    def _only(self) -> str:
        """Return the name of the file that is the whole store."""
        return self.location.rpartition("/")[2]

    def _place(self, name: str) -> str:
        """Check a name and return its URL for messages."""
        store_names.require_safe(name, self.location)
        if reason := _refusal(name):
            raise StorageError(f"{store_names.public(self.location)}: {name} is refused: {reason}")
        if self.scheme not in store_names.WEB:
            return store_names.public(f"{self.location}/{name}")
        if name != self._only():
            raise StorageError(f"{store_names.public(self.location)}: has no other file, such as {name}")
        return store_names.public(self.location)

    def _path(self, name: str, root: str) -> str:
        return root if self.scheme in store_names.WEB else f"{root}/{name}"

    def _information(self, name: str) -> StoredFile:
        client, root = self._open()
        information = client.info(self._path(name, root))
        if information["type"] == "directory":
            raise FileNotFoundError
        return _entry(name, information)

    def _download(self, name: str, part: Path) -> StoredFile:
        """Write a file's content to ``part``.

        Raises:
            OSError: if it is incomplete, or changed meanwhile.
            StorageError: if ``part`` cannot be written.
        """
        client, root = self._open()
        before = self._information(name)
        received = 0
        with disk.writing(part):
            part.write_bytes(b"")  # after an attempt that failed
        with client.open(self._path(name, root), "rb", **self.client.read) as stream:
            while received <= before.size and (content := stream.read(BLOCK)):
                received += len(content)
                with disk.writing(part), part.open("ab") as output:  # errors of reading are not its errors
                    output.write(content)
        if received != before.size:
            raise ConnectionError(f"expected {before.size:,} bytes, received {received:,}")
        if self._information(name) != before:
            raise ConnectionError(disk.CHANGED)
        return before

    def _upload(self, name: str, file: Path) -> None:
        client, root = self._open()
        path = self._path(name, root)
        if self.client.atomic:
            client.put_file(str(file), path, **self.client.put)
            return
        parent = path.rpartition("/")[0]
        part = f"{parent}/{locks.temporary_name()}"
        client.makedirs(parent, exist_ok=True)
        try:
            client.put_file(str(file), part)
            client.mv(part, path)
        finally:
            with contextlib.suppress(OSError):  # it was renamed
                client.rm_file(part)


def _refusal(name: str) -> str | None:
    patterns = store_names.PATTERNS.search(name)
    return "a name with *, ?, [, ] or #" if patterns else store_names.refusal(name)


def _entry(name: str, information: dict[str, Any]) -> StoredFile:
    """Return an entry from a client's information.

    Raises:
        StorageError: if the server does not send the size.
    """
    size = information.get("size")
    if not isinstance(size, int):
        raise StorageError(f"{name}: the server does not send the file's size")
    version = next((information[key] for key in VERSIONS if information.get(key)), "")
    if isinstance(version, datetime):  # a listing can have the same time as a number
        version = version.timestamp()
    return StoredFile(name=name, size=size, version=str(version).strip('"'))
