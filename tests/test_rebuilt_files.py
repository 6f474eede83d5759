"""GluonCV's published files, rebuilt where neither the cache nor the bucket has them."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from serving import serving, status, whole, zipped

from converter.errors import SourceError
from converter.progress import silent
from converter.sources import gluoncv_zoo
from converter.sources.gluoncv_zoo import Mirror
from converter.sources.hub import HubFile
from converter.sources.published_file import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Handler, Server

    from converter.networks.catalog import Model
    from converter.sources.params_file import ParamsFile
    from converter.sources.published_file import PublishedFile

CONTENT = b"what GluonCV published" * 1000
ORIGIN = HubFile(Path("model.safetensors"), "org/tiny", "12" * 20)


class Copy:
    """A place that has the file; ``requests`` counts how often it was asked."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.requests = 0

    def rebuild(self, path: Path) -> HubFile:
        self.requests += 1
        path.write_bytes(self.content)
        return ORIGIN

    def take(self, published: PublishedFile, folder: Path) -> ParamsFile:
        return gluoncv_zoo.take(published, folder, silent, mirror=Mirror(str(ORIGIN), self.rebuild))


@pytest.fixture
def published(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    """Return a published file that holds CONTENT, with an empty cache."""
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    sha1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    return replace(tiny, entry=msgspec.structs.replace(tiny.entry, params_sha1=sha1)).published


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(status(404)) as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MXNET_GLUON_REPO", server.url)
        yield server


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_cache_and_bucket_come_first(published: PublishedFile, bucket: Server, tmp_path: Path) -> None:
    copy = Copy()
    bucket.answers = [whole(zipped((published.name, CONTENT)))]
    for _ in range(2):  # the second is cached
        assert copy.take(published, tmp_path).hub is None
    assert (copy.requests, len(bucket.seen)) == (0, 1)


@pytest.mark.usefixtures("bucket")
def test_rebuilt_file_is_cached(published: PublishedFile, tmp_path: Path) -> None:
    copy = Copy()
    first, second = copy.take(published, tmp_path), copy.take(published, tmp_path)
    assert first.path == second.path == cache_folder() / published.name
    assert (first.hub, second.hub, copy.requests) == (ORIGIN, None, 1)
    assert visible(cache_folder()) == [published.name]


@pytest.mark.usefixtures("bucket")
def test_damaged_file_in_the_cache_is_replaced(published: PublishedFile, tmp_path: Path) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / published.name).write_bytes(b"rotten")
    assert Copy().take(published, tmp_path).is_published(published)
    assert (cache_folder() / published.name).read_bytes() == CONTENT


@pytest.mark.usefixtures("bucket")
def test_file_with_another_sha1_is_deleted(published: PublishedFile, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=rf"\n  hub       {ORIGIN}: expected SHA-1 {published.sha1}, found "
    ):
        Copy(b"other").take(published, tmp_path)
    assert visible(cache_folder()) == []


@pytest.mark.usefixtures("bucket")
def test_uncreatable_cache_is_bypassed(
    published: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    source = Copy().take(published, tmp_path)
    assert (source.path, source.hub) == (tmp_path / published.name, ORIGIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", published.name]


def test_file_that_another_process_has_stored_meanwhile_is_used(
    published: PublishedFile, bucket: Server, tmp_path: Path
) -> None:
    def store(request: Handler) -> None:
        (cache_folder() / published.name).write_bytes(CONTENT)
        status(404)(request)

    copy = Copy()
    bucket.answers = [store]
    assert copy.take(published, tmp_path).hub is None
    assert copy.requests == 0


@pytest.mark.usefixtures("bucket")
def test_full_disk_is_reported(published: PublishedFile, tmp_path: Path) -> None:
    def fail(path: Path) -> HubFile:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SourceError, match=r"\n  hub  .*No space left on device\nUse one of:"):
        gluoncv_zoo.take(published, tmp_path, silent, mirror=Mirror(str(ORIGIN), fail))
    assert visible(cache_folder()) == []
