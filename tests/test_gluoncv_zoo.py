"""GluonCV's published files: the cache, a local server in place of the bucket, and faults of both."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from serving import Server, cut, serving, status, whole, zipped

from converter.errors import SourceError
from converter.formats import archives
from converter.progress import silent
from converter.sources import gluoncv_zoo
from converter.sources.download import DownloadLimits
from converter.sources.published_file import cache_folder
from converter.storage import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving import Handler

    from converter.networks.catalog import Model
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

CONTENT = b"what GluonCV published" * 1000
LIMITS = DownloadLimits(attempts=2, stall=0.5, total=10, backoff=0.01)


@pytest.fixture
def model(tiny: Model) -> Model:
    """Return a model whose published file holds CONTENT."""
    sha1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    return replace(tiny, entry=msgspec.structs.replace(tiny.entry, params_sha1=sha1))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    folder = tmp_path / "mxnet" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield a loopback server in place of the bucket, which answers 404 by default."""
    with serving(status(404)) as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MXNET_GLUON_REPO", f"{server.url}/")
        yield server


@pytest.fixture
def fetch(model: Model, tmp_path: Path) -> Callable[..., ParamsFile]:
    """Return a function that fetches the model's file; the working folder is ``tmp_path``."""

    def take(progress: Progress = silent, limits: DownloadLimits = LIMITS) -> ParamsFile:
        return gluoncv_zoo.take(model.published, tmp_path, progress, limits)

    return take


def with_flipped_bytes(archive: bytes, place: int) -> bytes:
    return archive[:place] + bytes([archive[place] ^ 0xFF, archive[place + 1] ^ 0xFF]) + archive[place + 2 :]


def marked_encrypted(archive: bytes) -> bytes:
    """Set the encryption flag in the member's header and in the directory."""
    directory = archive.index(b"PK\x01\x02")
    return archive[:6] + b"\x01" + archive[7 : directory + 8] + b"\x01" + archive[directory + 9 :]


def files(cache: Path) -> list[str]:
    """Return the files in the cache, except the locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_cache_folder_is_gluoncvs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".mxnet" / "models"
    monkeypatch.setenv("MXNET_HOME", "/data/mxnet")
    assert str(cache_folder()) == "/data/mxnet/models"


def test_default_bucket_is_gluoncvs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    sha1 = model.entry.params_sha1
    bucket = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
    assert (
        gluoncv_zoo.download_url(model.published) == f"{bucket}/gluon/models/resnext50_32x4d-{sha1[:8]}.zip"
    )


def test_intact_cached_file_is_not_downloaded(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    (cache / model.official_file).write_bytes(CONTENT)
    source = fetch()
    assert (source.path, source.is_published(model.published)) == (cache / model.official_file, True)
    assert mirror.seen == []


def test_download_is_cached_under_gluoncvs_name(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    mirror.answers = [whole(zipped((model.official_file, CONTENT)))]
    source = fetch()
    assert source.path == cache / model.official_file
    assert source.is_published(model.published)
    assert source.path.read_bytes() == CONTENT
    assert files(cache) == [model.official_file]


@pytest.mark.usefixtures("cache")
def test_download_reports_progress(mirror: Server, fetch: Callable[..., ParamsFile]) -> None:
    content = zipped(("a.params", CONTENT))
    mirror.answers = [whole(content)]
    updates: list[tuple[str, int, int]] = []
    fetch(lambda *step: updates.append(step))
    downloading = [step for step in updates if step[0] == "downloading"]
    assert downloading[-1] == ("downloading", len(content), len(content))


@pytest.mark.parametrize(
    "damaged", [CONTENT[:-1], b"", b"\x1f\x8b no gzip", zipped(("b.params", CONTENT[:9]))]
)
def test_damaged_cached_file_is_downloaded_again(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], damaged: bytes
) -> None:
    (cache / model.official_file).write_bytes(damaged)
    mirror.answers = [whole(zipped((model.official_file, CONTENT)))]
    assert fetch().path.read_bytes() == CONTENT
    assert (cache / model.official_file).read_bytes() == CONTENT


WRONG = [
    (b"no zip", "File is not a zip file"),
    (zipped(("a.params", CONTENT))[:200], "File is not a zip file"),
    (zipped(("a.params", CONTENT[:-1])), "expected SHA-1 [0-9a-f]{40}, found [0-9a-f]{40}"),
    (with_flipped_bytes(zipped(("a.params", CONTENT)), 45), "cannot be unpacked: "),
    (marked_encrypted(zipped(("a.params", CONTENT))), "cannot be unpacked: .* is encrypted"),
    (zipped(("README", CONTENT)), r"expected a zip with exactly one \.params, found 0\b"),
    (
        zipped(("a.params", CONTENT), ("b.params", CONTENT)),
        r"expected a zip with exactly one \.params, found 2\b",
    ),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_wrong_download_never_reaches_the_cache(
    cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], content: bytes, message: str
) -> None:
    mirror.answers = [whole(content)]
    with pytest.raises(SourceError, match=f"{message}.*; downloaded twice"):
        fetch()
    assert files(cache) == []
    assert mirror.ranges == [None, None]


@pytest.mark.parametrize(("content", "_message"), WRONG)
def test_damaged_download_is_retried_once(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], content: bytes, _message: str
) -> None:
    mirror.answers = [whole(content), whole(zipped(("a.params", CONTENT)))]
    assert fetch().is_published(model.published)
    assert files(cache) == [model.official_file]


def test_interrupted_download_is_resumed_by_the_next_run(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    content = zipped(("a.params", CONTENT))
    mirror.answers = [cut(content, 50), status(500)]
    expected = f"50 of {len(content)} bytes are kept; the next run resumes the download"
    with pytest.raises(SourceError, match=expected):
        fetch()
    part = f".download-{model.official_file.removesuffix('.params')}.zip"
    assert files(cache) == [part, f"{part}.json"]
    mirror.answers = [whole(content)]
    assert fetch().is_published(model.published)
    assert mirror.ranges[-1] == "bytes=50-"
    assert files(cache) == [model.official_file]


def test_damaged_partial_download_is_downloaded_again(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    content = zipped(("a.params", CONTENT))
    mirror.answers = [cut(content, 50), status(500)]
    with pytest.raises(SourceError, match="are kept"):
        fetch()
    (part,) = cache.glob(".download-*.zip")
    part.write_bytes(bytes(50))
    mirror.answers = [whole(content)]
    assert fetch().is_published(model.published)
    assert mirror.ranges[-2:] == ["bytes=50-", None]
    assert files(cache) == [model.official_file]


def test_stale_partial_downloads_are_deleted(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    old, new, theirs = (cache / name for name in (".download-old.zip", ".download-new.zip", "theirs.params"))
    for path in (old, new, theirs):
        path.touch()
    for path in (old, theirs):
        os.utime(path, (0, time.time() - gluoncv_zoo.KEPT_SECONDS - 60))
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    fetch()
    assert files(cache) == sorted([new.name, model.official_file, theirs.name])


def test_zip_member_path_cannot_escape_the_folder(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    mirror.answers = [whole(zipped(("../../escaped.params", CONTENT)))]
    assert fetch().path == cache / model.official_file
    assert not list(cache.parents[2].rglob("escaped.params"))


def test_zip_declaring_too_large_a_size_is_refused(
    cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_PARAMS_BYTES", len(CONTENT) - 1)
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    with pytest.raises(SourceError, match=r"declares 22000 bytes; the limit is 21999\b"):
        fetch()
    assert files(cache) == []


def test_missing_file_on_the_server_lists_three_alternatives(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    expected = (
        rf"(?s)  cache     {cache}/{model.official_file}: no such file\n"
        rf"  download  {mirror.url}/gluon/models/\S+\.zip: the server answers 404 Not Found\n"
        r"Use one of:\n  --params FILE .*\n  MXNET_GLUON_REPO=URL .*\n  --random SEED "
    )
    with pytest.raises(SourceError, match=expected):
        fetch()
    assert len(mirror.seen) == 1


def test_connection_error_lists_alternatives_and_the_cache_damage(
    model: Model, cache: Path, fetch: Callable[..., ParamsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://me:secret@127.0.0.1:9")
    (cache / model.official_file).write_bytes(b"rotten")
    expected = r"(?s)damaged: expected SHA-1 .*\n.*//127\.0\.0\.1:9/gluon.*refused; 2 attempts\nUse one of:"
    with pytest.raises(SourceError, match=expected) as refusal:
        fetch()
    assert "secret" not in str(refusal.value)
    assert (cache / model.official_file).read_bytes() == b"rotten"


def test_unpublished_model_lists_two_alternatives(model: Model, tmp_path: Path) -> None:
    unpublished = replace(model, entry=msgspec.structs.replace(model.entry, params_sha1=""))
    with pytest.raises(
        SourceError, match=r"(?s)never published parameters of this model\nUse one of:\n  --params"
    ):
        gluoncv_zoo.take(unpublished.published, tmp_path, silent)


def test_uncreatable_cache_is_bypassed(
    model: Model,
    fetch: Callable[..., ParamsFile],
    mirror: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    source = fetch()
    assert (source.path, source.is_published(model.published)) == (tmp_path / model.official_file, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", model.official_file]
    source.path.unlink()
    mirror.answers = [cut(CONTENT, 50)]
    with pytest.raises(SourceError, match=r"received 50; 2 attempts\nUse one of:"):
        fetch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.usefixtures("cache")
def test_full_disk_is_reported_without_a_retry(
    model: Model, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    part = f".download-{model.official_file.removesuffix('.params')}.zip"
    (cache_folder() / part).symlink_to("/dev/full")
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    with pytest.raises(SourceError, match=r"(?s)No space left on device.*Use one of:"):
        fetch()
    assert len(mirror.seen) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root ignores permissions")
def test_read_only_cache_is_bypassed(
    model: Model, cache: Path, fetch: Callable[..., ParamsFile], mirror: Server, tmp_path: Path
) -> None:
    (cache / model.official_file).write_bytes(b"rotten")
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    cache.chmod(0o500)
    try:
        assert fetch().path == tmp_path / model.official_file
    finally:
        cache.chmod(0o700)
    assert (cache / model.official_file).read_bytes() == b"rotten"


PROGRAM = """
import dataclasses, pathlib, sys, msgspec
from converter.sources import gluoncv_zoo
from converter.networks import catalog
from converter.progress import silent
model = catalog.find("gluon_resnext50_32x4d")
entry = msgspec.structs.replace(model.entry, params_sha1=sys.argv[1])
found = gluoncv_zoo.take(dataclasses.replace(model, entry=entry).published, pathlib.Path(sys.argv[2]), silent)
print(found.path, found.sha1)
"""


def test_concurrent_processes_download_once(
    model: Model, cache: Path, mirror: Server, tmp_path: Path
) -> None:
    content = zipped(("a.params", CONTENT))

    def slowly(handler: Handler) -> None:
        mirror.closing.wait(1)
        whole(content)(handler)

    mirror.answers = [slowly]
    command = [sys.executable, "-P", "-c", PROGRAM, model.entry.params_sha1, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert outputs == {f"{cache / model.official_file} {model.entry.params_sha1}"}
    assert len(mirror.seen) == 1
    assert files(cache) == [model.official_file]


def test_lock_held_by_another_process_times_out(
    model: Model, cache: Path, fetch: Callable[..., ParamsFile]
) -> None:
    lock = cache / f".download-{model.official_file.removesuffix('.params')}.zip.lock"
    lock.touch()
    with (
        locks.held(lock),
        pytest.raises(SourceError, match=r"lock: another process has held this lock for 0\.1 s"),
    ):
        fetch(limits=replace(LIMITS, total=0.1))
