"""GluonCV's published files: the cache, a real server in the bucket's place, and faults of both."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import msgspec
import pytest
from serving import Server, cut, serving, status, whole, zipped

from converter.errors import SourceError
from converter.formats import archives
from converter.progress import silent
from converter.sources import gluoncv_zoo
from converter.sources.download import DownloadLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving import Handler

    from converter.networks.catalog import Model
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

CONTENT = b"what GluonCV published" * 1000
LIMITS = DownloadLimits(attempts=2, stall=0.5, total=10, first_pause=0.01)


@pytest.fixture
def model(tiny: Model) -> Model:
    """A model whose published file holds CONTENT."""
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
    """A server on loopback that stands in for the bucket, and has nothing yet."""
    with serving(status(404)) as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MXNET_GLUON_REPO", f"{server.url}/")
        yield server


@pytest.fixture
def fetch(model: Model, tmp_path: Path) -> Callable[..., ParamsFile]:
    """Take the model's file; the working folder is ``tmp_path``."""

    def take(progress: Progress = silent, limits: DownloadLimits = LIMITS) -> ParamsFile:
        return gluoncv_zoo.take(model.published, tmp_path, progress, limits)

    return take


def spoilt(archive: bytes, place: int) -> bytes:
    return archive[:place] + bytes([archive[place] ^ 0xFF, archive[place + 1] ^ 0xFF]) + archive[place + 2 :]


def encrypted(archive: bytes) -> bytes:
    """Set the flag that says so, in the member's own header and in the directory."""
    directory = archive.index(b"PK\x01\x02")
    return archive[:6] + b"\x01" + archive[7 : directory + 8] + b"\x01" + archive[directory + 9 :]


def files(cache: Path) -> list[str]:
    """Return what is in the cache, but for the locks, which stay."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_the_cache_is_where_gluoncv_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gluoncv_zoo.cache_folder() == tmp_path / ".mxnet" / "models"
    monkeypatch.setenv("MXNET_HOME", "/data/mxnet")
    assert str(gluoncv_zoo.cache_folder()) == "/data/mxnet/models"


def test_the_bucket_is_gluoncvs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    sha1 = model.entry.params_sha1
    bucket = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
    assert (
        gluoncv_zoo.download_url(model.published) == f"{bucket}/gluon/models/resnext50_32x4d-{sha1[:8]}.zip"
    )


def test_a_whole_cached_file_is_taken_without_a_download(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    (cache / model.official_file).write_bytes(CONTENT)
    found = fetch()
    assert (found.path, found.is_published(model.published)) == (cache / model.official_file, True)
    assert mirror.seen == []


def test_a_download_is_kept_in_the_cache_under_gluoncvs_name(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    mirror.answers = [whole(zipped((model.official_file, CONTENT)))]
    found = fetch()
    assert found.path == cache / model.official_file
    assert found.is_published(model.published)
    assert found.path.read_bytes() == CONTENT
    assert files(cache) == [model.official_file]


@pytest.mark.usefixtures("cache")
def test_a_download_tells_how_far_it_is(mirror: Server, fetch: Callable[..., ParamsFile]) -> None:
    content = zipped(("a.params", CONTENT))
    mirror.answers = [whole(content)]
    told: list[tuple[str, int, int]] = []
    fetch(lambda *step: told.append(step))
    downloading = [step for step in told if step[0] == "downloading"]
    assert downloading[-1] == ("downloading", len(content), len(content))


@pytest.mark.parametrize(
    "rotten", [CONTENT[:-1], b"", b"\x1f\x8b no gzip", zipped(("b.params", CONTENT[:9]))]
)
def test_a_damaged_cached_file_is_replaced_by_a_download(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], rotten: bytes
) -> None:
    (cache / model.official_file).write_bytes(rotten)
    mirror.answers = [whole(zipped((model.official_file, CONTENT)))]
    assert fetch().path.read_bytes() == CONTENT
    assert (cache / model.official_file).read_bytes() == CONTENT


WRONG = [
    (b"no zip", "File is not a zip file"),
    (zipped(("a.params", CONTENT))[:200], "File is not a zip file"),
    (zipped(("a.params", CONTENT[:-1])), "SHA-1 [0-9a-f]{40} expected, [0-9a-f]{40} found"),
    (spoilt(zipped(("a.params", CONTENT)), 45), "cannot be unpacked: "),
    (encrypted(zipped(("a.params", CONTENT))), "cannot be unpacked: .* is encrypted"),
    (zipped(("README", CONTENT)), r"a zip with one \.params expected, 0 found"),
    (zipped(("a.params", CONTENT), ("b.params", CONTENT)), r"a zip with one \.params expected, 2 found"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_is_not_the_published_file_never_reaches_the_cache(
    cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], content: bytes, message: str
) -> None:
    mirror.answers = [whole(content)]
    with pytest.raises(SourceError, match=f"{message}.*; fetched twice"):
        fetch()
    assert files(cache) == []
    assert mirror.ranges == [None, None]


@pytest.mark.parametrize(("content", "_message"), WRONG)
def test_what_was_spoilt_on_the_way_is_fetched_once_more(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], content: bytes, _message: str
) -> None:
    mirror.answers = [whole(content), whole(zipped(("a.params", CONTENT)))]
    assert fetch().is_published(model.published)
    assert files(cache) == [model.official_file]


def test_a_download_that_broke_off_goes_on_in_the_next_run(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    content = zipped(("a.params", CONTENT))
    mirror.answers = [cut(content, 50), status(500)]
    expected = f"50 of {len(content)} bytes are kept, and another run goes on from there"
    with pytest.raises(SourceError, match=expected):
        fetch()
    part = f".download-{model.official_file.removesuffix('.params')}.zip"
    assert files(cache) == [part, f"{part}.json"]
    mirror.answers = [whole(content)]
    assert fetch().is_published(model.published)
    assert mirror.ranges[-1] == "bytes=50-"
    assert files(cache) == [model.official_file]


def test_a_kept_part_that_rotted_costs_one_more_download(
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


def test_what_nobody_went_on_with_is_swept_away(
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


def test_a_member_that_points_out_of_the_folder_goes_nowhere(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    mirror.answers = [whole(zipped(("../../escaped.params", CONTENT)))]
    assert fetch().path == cache / model.official_file
    assert not list(cache.parents[2].rglob("escaped.params"))


def test_a_zip_that_promises_too_much_is_refused(
    cache: Path, mirror: Server, fetch: Callable[..., ParamsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_PARAMS_BYTES", len(CONTENT) - 1)
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    with pytest.raises(SourceError, match="declares 22000 bytes; 21999 are allowed"):
        fetch()
    assert files(cache) == []


def test_a_file_the_server_does_not_have_brings_the_three_ways_out(
    model: Model, cache: Path, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    expected = (
        rf"(?s)in the cache  {cache}/{model.official_file}: not there\n"
        rf"  downloading   {mirror.url}/gluon/models/\S+\.zip: the server answers 404 Not Found\n"
        r"Three ways out:\n  --params FILE .*\n  MXNET_GLUON_REPO=URL .*\n  --random SEED "
    )
    with pytest.raises(SourceError, match=expected):
        fetch()
    assert len(mirror.seen) == 1


def test_no_network_brings_the_three_ways_out_and_the_damage_in_the_cache(
    model: Model, cache: Path, fetch: Callable[..., ParamsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://me:secret@127.0.0.1:9")
    (cache / model.official_file).write_bytes(b"rotten")
    expected = (
        r"(?s)damaged: its SHA-1 is .*//127\.0\.0\.1:9/gluon.*refused; 2 attempts in 0 s.*Three ways out:"
    )
    with pytest.raises(SourceError, match=expected) as refusal:
        fetch()
    assert "secret" not in str(refusal.value)
    assert (cache / model.official_file).read_bytes() == b"rotten"


def test_a_model_that_was_never_published_brings_two_ways_out(model: Model, tmp_path: Path) -> None:
    unpublished = replace(model, entry=msgspec.structs.replace(model.entry, params_sha1=""))
    with pytest.raises(SourceError, match=r"(?s)never published its parameters\nTwo ways out:\n  --params"):
        gluoncv_zoo.take(unpublished.published, tmp_path, silent)


def test_a_cache_that_cannot_be_made_does_without(
    model: Model,
    fetch: Callable[..., ParamsFile],
    mirror: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    found = fetch()
    assert (found.path, found.is_published(model.published)) == (tmp_path / model.official_file, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", model.official_file]
    found.path.unlink()
    mirror.answers = [cut(CONTENT, 50)]
    with pytest.raises(SourceError, match=r"50 came; 2 attempts in 0 s\nThree ways out"):
        fetch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
@pytest.mark.usefixtures("cache")
def test_a_full_disk_is_named_and_not_tried_again(
    model: Model, mirror: Server, fetch: Callable[..., ParamsFile]
) -> None:
    part = f".download-{model.official_file.removesuffix('.params')}.zip"
    (gluoncv_zoo.cache_folder() / part).symlink_to("/dev/full")
    mirror.answers = [whole(zipped(("a.params", CONTENT)))]
    with pytest.raises(SourceError, match=r"(?s)No space left on device.*Three ways out"):
        fetch()
    assert len(mirror.seen) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read_does_without(
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


def test_several_processes_at_once_download_once(
    model: Model, cache: Path, mirror: Server, tmp_path: Path
) -> None:
    content = zipped(("a.params", CONTENT))

    def slowly(handler: Handler) -> None:
        mirror.closing.wait(1)
        whole(content)(handler)

    mirror.answers = [slowly]
    command = [sys.executable, "-P", "-c", PROGRAM, model.entry.params_sha1, str(tmp_path)]
    all_of_them = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0].strip() for process in all_of_them}
    assert said == {f"{cache / model.official_file} {model.entry.params_sha1}"}
    assert len(mirror.seen) == 1
    assert files(cache) == [model.official_file]


def test_a_process_that_never_ends_is_not_waited_for_for_ever(
    model: Model, cache: Path, fetch: Callable[..., ParamsFile]
) -> None:
    lock = cache / f".download-{model.official_file.removesuffix('.params')}.zip.lock"
    with (
        filelock.FileLock(lock),
        pytest.raises(SourceError, match=r"lock: another process has held it for 0\.1 s"),
    ):
        fetch(limits=replace(LIMITS, total=0.1))
