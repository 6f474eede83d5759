"""Stores other than S3: web servers, clients without atomic uploads, and missing packages."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING

import fsspec
import pytest
import urllib3
from fsspec.implementations.memory import MemoryFileSystem
from serving import cut, endless, serving, status, whole

from converter.errors import FileMissingError, StorageError, UsageError
from converter.storage import clients, stores, transfers

if TYPE_CHECKING:
    from pathlib import Path

    from serving import Answer, Server

    from converter.storage.store import Store

CONTENT = bytes(range(256)) * 4096


class NoRename(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that refuses to rename."""

    protocol = "norename"
    store: dict[str, object] = {}  # noqa: RUF012 - as its parent's

    def mv(self, *_: object, **__: object) -> None:
        raise OSError("the reason")


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "RETRY", urllib3.Retry(1))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def opened(server: Server) -> Store:
    return stores.open_store(f"{server.url}/models/large.params")


def test_web_store_is_one_file(tmp_path: Path) -> None:
    with serving(whole(CONTENT)) as server:
        store = opened(server)
        (entry,) = store.entries()
        assert (entry.name, entry.size) == ("large.params", len(CONTENT))
        assert store.fetch("large.params", tmp_path / "copy") == entry
        assert stores.locate(store.url) == (store, "large.params")
        with pytest.raises(StorageError, match="has no other file, such as other"):
            store.fetch("other", tmp_path / "copy")
        with pytest.raises(UsageError, match="can only be read"):
            store.write("large.params", b"")
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("broken", [status(503), cut(CONTENT, 1000)])
def test_broken_web_download_is_repeated(broken: Answer, tmp_path: Path) -> None:
    size = whole(CONTENT)  # two requests before that of the content
    with serving(size, size, broken, whole(CONTENT)) as server:
        opened(server).fetch("large.params", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_web_download_that_stays_broken_leaves_nothing(tmp_path: Path) -> None:
    with (
        serving(cut(CONTENT, 1000)) as server,
        pytest.raises(StorageError, match=r"large\.params: .*; 2 attempts"),
    ):
        opened(server).fetch("large.params", tmp_path / "folder" / "copy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (status(404), FileMissingError, r"large\.params: not found"),
        (status(403), StorageError, "access denied"),
        (status(503), StorageError, "2 attempts"),
        (endless(), StorageError, "does not send the file's size"),
    ],
)
def test_web_errors_are_reported(answer: Answer, error: type[StorageError], message: str) -> None:
    with serving(answer) as server, pytest.raises(error, match=message):
        opened(server).entries()


def test_changed_web_file_is_refused(tmp_path: Path) -> None:
    new = whole(CONTENT, '"new"')
    old = whole(CONTENT)
    with (
        serving(old, old, old, new, old, old, old, new) as server,
        pytest.raises(StorageError, match="the file was changed while it was read; 2 attempts"),
    ):
        opened(server).fetch("large.params", tmp_path / "copy")


def test_client_with_an_unknown_rename_is_not_written() -> None:
    fsspec.register_implementation("norename", NoRename, clobber=True)
    with pytest.raises(UsageError, match="norename:// can only be read"):
        stores.open_store("norename://folder").write("a.json", b"1")
    assert NoRename.store == {}


def test_failed_rename_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("norename", NoRename, clobber=True)
    monkeypatch.setitem(clients.CLIENTS, "norename", clients.RENAMED)
    store = stores.open_store("norename://folder")
    with pytest.raises(StorageError, match=r"a\.json: the reason; 2 attempts"):
        store.write("a.json", b"1")
    assert NoRename.store == {}


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec_registry = importlib.import_module("fsspec.registry")
    monkeypatch.delitem(fsspec_registry._registry, "gs", raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StorageError, match=r'pip install "gluon2torch\[gcs\]"'):
        stores.open_store("gs://bucket")


@pytest.mark.parametrize(
    "url", ["gs://bucket/x", "abfs://container@account.dfs.core.windows.net/x", "hf://org/x"]
)
def test_clients_of_the_extras_open(url: str) -> None:
    assert stores.open_store(url).url == url


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "plain").write_bytes(b"plain")
    with contextlib.suppress(NotImplementedError):
        (folder / "link").symlink_to(tmp_path / "secret")
    store = stores.open_store(folder)
    assert [entry.name for entry in store.entries()] == ["plain"]
    assert "a link to" in store.listing().refused["link"]
    with pytest.raises(StorageError, match="a link to"):
        store.read("link", 100)
