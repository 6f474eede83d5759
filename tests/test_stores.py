"""Stores of files: a local folder, a bucket of a real S3 server, and a file system in memory."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import TYPE_CHECKING

import fsspec
import pytest
from s3_server import s3, s3_server

from converter.errors import FileMissingError, StorageError, UsageError
from converter.storage import stores
from converter.storage.store import BLOCK, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.storage.store import Store

__all__ = ["s3", "s3_server"]  # fixtures

CONTENT = bytes(range(256)) * (2 * BLOCK // 256) + b"end"  # an upload of three parts


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store of each kind."""
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        yield stores.open_store(tmp_path / "store")
    elif request.param == "s3":
        yield stores.open_store(f"{request.getfixturevalue('s3')}/some/prefix")
    else:
        yield stores.open_store("memory://store")
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file of several blocks."""
    file = tmp_path / "large.params"
    file.write_bytes(CONTENT)
    return file


def test_files_are_written_listed_and_read(store: Store, large: Path, tmp_path: Path) -> None:
    assert store.entries() == []
    store.put("models/large.params", large)
    store.write("report.json", b"{}")
    large_entry, small_entry = store.entries()
    assert (large_entry.name, large_entry.size) == ("models/large.params", len(CONTENT))
    assert (small_entry.name, small_entry.size) == ("report.json", 2)
    assert store.read("report.json", 2) == b"{}"
    assert store.fetch("models/large.params", tmp_path / "new" / "copy") == large_entry
    assert (tmp_path / "new" / "copy").read_bytes() == CONTENT
    assert store.entry("report.json") == small_entry


def test_new_content_has_a_new_version(store: Store) -> None:
    store.write("a.json", b"1")
    before = store.entry("a.json")
    assert store.entry("a.json") == before
    store.write("a.json", b"2")
    assert store.read("a.json", 1) == b"2"
    assert store.entry("a.json").version != before.version


def test_store_is_opened_again_from_its_url_and_its_pickle(store: Store) -> None:
    store.write("a.json", b"1")
    assert stores.open_store(store.url).read("a.json", 1) == b"1"
    assert pickle.loads(pickle.dumps(store)).read("a.json", 1) == b"1"  # noqa: S301 - our own


def test_missing_file_is_reported_with_its_place(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"absent\.params: not found"):
        store.fetch("absent.params", tmp_path / "copy")
    with pytest.raises(FileMissingError, match="absent"):
        store.entry("absent")
    assert not (tmp_path / "copy").exists()


def test_large_file_is_not_read_at_once(store: Store) -> None:
    store.write("a.json", b"123")
    with pytest.raises(StorageError, match="more than 2 bytes"):
        store.read("a.json", 2)


def test_small_file_is_read_without_allocating_the_limit(store: Store) -> None:
    store.write("a.json", b"123")
    tracemalloc.start()
    try:
        assert store.read("a.json", 1 << 28) == b"123"
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a//b", "a/./b", "a\nb", "c:\\x", "C:x", "", "a/"])
def test_hostile_names_are_refused(store: Store, name: str, tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"x")
    with pytest.raises(StorageError, match="refused"):
        store.put(name, file)
    with pytest.raises(StorageError, match="refused"):
        store.fetch(name, tmp_path / "copy")


def test_locate_names_the_store_of_a_file(store: Store) -> None:
    store.write("a/b.json", b"1")
    parent, name = stores.locate(f"{store.url}/a/b.json")
    assert parent.read(name, 1) == b"1"
    assert [StoredFile(name=name, size=1, version=parent.entry(name).version)] == parent.entries()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/x", "s3://bucket/x: the URL contains a user name or a password"),
        ("https://secret@host/x", "https://host/x: the URL contains a user name"),
        ("abfs://name:secret@host/x", "abfs://host/x: the URL contains a user name"),
        ("https://host/x?X-Amz-Signature=secret", "https://host/x: the URL has a query"),
        ("s3://", "expected a bucket"),
        ("secret://bucket", "unknown scheme"),
        ("zip://secret::s3://bucket/x", "a chain of stores"),
        ("file://host/secret", "a folder of another computer"),
    ],
)
def test_unsuitable_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        stores.open_store(url)
    assert message in str(refused.value)


def test_container_of_azure_is_no_user_name() -> None:
    assert stores.open_store("abfs://container@account.dfs.core.windows.net/x/").url.endswith("net/x")
