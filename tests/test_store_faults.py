"""Interrupted transfers to and from a real S3 server: repeated, or reported with nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import fsspec
import pytest
import urllib3
from s3_server import SECRET, Fault, S3Server, closed, cut, refused, s3, s3_server, shortened

from converter.errors import FileMissingError, StorageError
from converter.storage import stores, transfers
from converter.storage.store import BLOCK

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Answer, Change

    from converter.storage.store import Store

__all__ = ["s3", "s3_server"]  # fixtures

CONTENT = bytes(range(256)) * (2 * BLOCK // 256)  # the smallest upload of two parts
PUT = """
import sys
from pathlib import Path
from converter.storage import stores
stores.open_store(sys.argv[1]).put("large.params", Path(sys.argv[2]))
"""


@pytest.fixture
def store(s3: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an empty store, whose requests are repeated once, and transfers twice."""
    monkeypatch.setattr(transfers, "RETRY", urllib3.Retry(2, backoff_factor=0.01))
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 2)
    return stores.open_store(f"{s3}/out")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large.params"
    file.write_bytes(CONTENT)
    return file


def unfinished(store: Store) -> list[str]:
    """Return the keys of the store's unfinished uploads."""
    client = fsspec.filesystem("s3", use_listings_cache=False)
    answer = client.call_s3("list_multipart_uploads", Bucket=store.url.split("/")[2])
    return [upload["Key"] for upload in answer.get("Uploads", [])]


BROKEN = [
    pytest.param(refused(503, "SlowDown"), id="throttled"),
    pytest.param(refused(500, "InternalError"), id="internal-error"),
    pytest.param(closed, id="closed"),
    pytest.param(cut(1 << 20), id="cut"),
    pytest.param(shortened(0), id="short"),
]


@pytest.mark.parametrize("change", BROKEN)
def test_broken_download_is_repeated(
    change: Change, store: Store, s3_server: S3Server, large: Path, tmp_path: Path
) -> None:
    store.put("large.params", large)
    fault = Fault("GET", "large.params", change, times=2)
    s3_server.faults.append(fault)
    store.fetch("large.params", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert fault.times == 0


@pytest.mark.parametrize("change", BROKEN[3:])
def test_download_that_stays_broken_leaves_nothing(
    change: Change, store: Store, s3_server: S3Server, large: Path, tmp_path: Path
) -> None:
    store.put("large.params", large)
    s3_server.faults.append(Fault("GET", "large.params", change, times=100))
    folder = tmp_path / "copies"
    folder.mkdir()
    with pytest.raises(StorageError, match=r"out/large\.params: .*; 3 attempts"):
        store.fetch("large.params", folder / "copy")
    assert list(folder.iterdir()) == []


def test_throttled_listing_is_repeated(store: Store, s3_server: S3Server) -> None:
    store.write("a.json", b"1")
    fault = Fault("GET", "list-type=2", refused(503, "SlowDown"), times=2)
    s3_server.faults.append(fault)
    assert [entry.name for entry in store.entries()] == ["a.json"]
    assert fault.times == 0


def test_listing_that_stays_throttled_is_reported(store: Store, s3_server: S3Server) -> None:
    s3_server.faults.append(Fault("GET", "list-type=2", refused(503, "SlowDown", "slower"), times=100))
    with pytest.raises(StorageError, match=r"out: .*; 3 attempts"):
        store.entries()


def test_all_pages_are_listed_once(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.open_store(s3)
    for number in range(5):
        store.write(f"{number}/{number}.json", b"")
    monkeypatch.setenv("MOTO_S3_MAX_KEYS", "2")  # read by the server for each listing
    s3_server.requests.clear()
    assert [entry.name for entry in store.entries()] == [f"{number}/{number}.json" for number in range(5)]
    assert all("list-type=2" in request for request in s3_server.requests)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        pytest.param(refused(503, "SlowDown"), "partNumber=2", id="throttled"),
        pytest.param(closed, "partNumber=2", id="closed"),
    ],
)
def test_broken_upload_is_repeated(
    change: Change, part: str, store: Store, s3_server: S3Server, large: Path, tmp_path: Path
) -> None:
    fault = Fault("PUT", part, change, times=2)
    s3_server.faults.append(fault)
    store.put("large.params", large)
    store.fetch("large.params", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert (fault.times, unfinished(store)) == (0, [])


def test_failed_upload_leaves_no_parts(store: Store, s3_server: S3Server, large: Path) -> None:
    s3_server.faults.append(Fault("PUT", "partNumber=2", refused(403, "AccessDenied"), times=100))
    with pytest.raises(StorageError, match=r"large\.params: access denied: the reason"):
        store.put("large.params", large)
    assert (store.entries(), unfinished(store)) == ([], [])
    s3_server.faults.clear()
    store.put("large.params", large)
    assert [entry.size for entry in store.entries()] == [len(CONTENT)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_upload_leaves_nothing_under_its_name(store: Store, s3_server: S3Server, large: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PUT, store.url, str(large)])

    def kill(_: Answer) -> None:
        process.send_signal(signal.SIGKILL)

    s3_server.faults.append(Fault("PUT", "partNumber=2", kill))
    assert process.wait(30) == -signal.SIGKILL
    assert store.entries() == []
    assert unfinished(store) == ["out/large.params"]  # which S3 deletes by the bucket's lifecycle rule
    store.put("large.params", large)
    assert [entry.name for entry in store.entries()] == ["large.params"]


def test_replaced_object_is_not_mixed(store: Store, s3_server: S3Server, large: Path, tmp_path: Path) -> None:
    """An object that is replaced between two blocks is read again from its beginning."""
    store.put("large.params", large)
    new = tmp_path / "new.params"
    new.write_bytes(CONTENT[::-1])
    replaced: list[None] = []

    def replace(answer: Answer) -> Answer:
        store.put("large.params", new)
        replaced.append(None)
        return answer

    s3_server.faults.append(Fault("GET", "large.params", replace))
    entry = store.fetch("large.params", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT[::-1]
    assert (entry, len(replaced)) == (store.entry("large.params"), 1)


def test_vanished_object_is_reported(store: Store, s3_server: S3Server, large: Path, tmp_path: Path) -> None:
    store.put("large.params", large)
    (entry,) = store.entries()
    s3_server.faults.append(Fault("GET", "large.params", refused(404, "NoSuchKey"), times=100))
    with pytest.raises(FileMissingError, match=r"large\.params: not found"):
        store.fetch(entry.name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_missing_bucket_is_reported(store: Store, large: Path) -> None:
    missing = stores.open_store(f"{store.url.replace('checkpoints', 'missing')}/x")
    with pytest.raises(FileMissingError, match="the bucket does not exist"):
        missing.entries()
    with pytest.raises(FileMissingError, match="the bucket does not exist"):
        missing.put("large.params", large)


def test_denied_access_is_reported_at_once_without_secrets(store: Store, s3_server: S3Server) -> None:
    denial = refused(403, "AccessDenied", f"see http://user:{SECRET}@host/x?signature={SECRET}")
    s3_server.faults.append(Fault("GET", "list-type=2", denial, times=100))
    s3_server.requests.clear()
    with pytest.raises(StorageError, match="access denied: see http://host/x\n") as raised:
        store.entries()
    assert SECRET not in str(raised.value)
    assert len(s3_server.requests) == 1


def test_missing_credentials_are_reported(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3_class = fsspec.get_filesystem_class("s3")
    s3_class.clear_instance_cache()  # clients keep their credentials
    with pytest.raises(StorageError, match="access denied: Unable to locate credentials"):
        stores.open_store(s3).entries()
    s3_class.clear_instance_cache()


@pytest.mark.parametrize("key", ["../escape.params", "/absolute.params", "a\x01b.params", "a/../../b", "a*b"])
def test_hostile_keys_of_a_bucket_are_listed_as_refused(key: str, s3: str) -> None:
    store = stores.open_store(s3)
    client = fsspec.filesystem("s3", use_listings_cache=False)
    client.call_s3("put_object", Bucket=s3.removeprefix("s3://"), Key=key, Body=b"x")
    store.write("plain.params", b"x")
    listing = store.listing()
    assert [entry.name for entry in listing.entries] == ["plain.params"]
    assert list(listing.refused) == [key]


def test_pauses_grow_and_vary() -> None:
    failed = OSError()
    second = [transfers.RETRY.increment(error=failed).increment(error=failed) for _ in range(9)]
    pauses = {retry.get_backoff_time() for retry in second}
    assert len(pauses) > 1
    assert max(pauses) < second[0].increment(error=failed).get_backoff_time() <= transfers.RETRY.backoff_max
