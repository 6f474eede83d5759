"""Open stores of files: local folders, and prefixes of buckets and other places that fsspec knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import UsageError
from converter.storage import store_names
from converter.storage.local_store import LocalStore
from converter.storage.remote_store import RemoteStore

if TYPE_CHECKING:
    from converter.storage.store import Store


def open_store(location: str | Path) -> Store:
    """Return the store at a path or URL; no request is sent.

    ``http://`` and ``https://`` URLs name a single file, the only one of the store.

    Raises:
        UsageError: if the URL contains credentials or a query, or its scheme is unknown.
        StorageError: if the package of the scheme is not installed.
    """
    url = os.fspath(location)
    store_names.require_clear(url)
    scheme = store_names.scheme(url)
    if not scheme:
        return LocalStore(Path(location))
    store_names.require_plain(url)
    if scheme == "file":
        return LocalStore(store_names.local_path(url))
    store = RemoteStore(url.rstrip("/"))
    store.require_client()
    return store


def locate(location: str | Path) -> tuple[Store, str]:
    """Return the store of one file, and the file's name in it.

    Raises:
        UsageError: if the location has no name, or as in ``open_store``.
        StorageError: as in ``open_store``.
    """
    url = os.fspath(location)
    store_names.require_clear(url)
    scheme = store_names.scheme(url)
    if scheme in {"", "file"}:
        path = store_names.local_path(url) if scheme else Path(location)
        return LocalStore(path.parent), path.name
    folder, _, name = url.rpartition("/")
    if not name or folder.endswith(":/"):
        raise UsageError(f"{store_names.public(url)}: expected the URL of a file")
    return open_store(url if scheme in store_names.WEB else folder), name
