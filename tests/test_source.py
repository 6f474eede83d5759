from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import threading
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from converter import source
from converter.errors import SourceError
from converter.files import archives
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.models.catalog import Model
    from converter.progress import Progress
    from converter.source import Source

CONTENT = b"what GluonCV published" * 1000


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
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server on loopback that stands in for the bucket."""
    folder = tmp_path / "served" / "gluon" / "models"
    folder.mkdir(parents=True)
    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def spoilt(archive: bytes, place: int) -> bytes:
    return archive[:place] + bytes([archive[place] ^ 0xFF, archive[place + 1] ^ 0xFF]) + archive[place + 2 :]


def encrypted(archive: bytes) -> bytes:
    """Set the flag that says so, in the member's own header and in the directory."""
    directory = archive.index(b"PK\x01\x02")
    return archive[:6] + b"\x01" + archive[7 : directory + 8] + b"\x01" + archive[directory + 9 :]


def serve(mirror: Path, model: Model, content: bytes) -> None:
    (mirror / model.official_file).with_suffix(".zip").write_bytes(content)


def fetch(model: Model, progress: Progress = silent) -> Source:
    return source.from_zoo(model, source.cache_folder().parent, progress)


def test_a_file_is_taken_as_it_is_and_known_by_its_hash(model: Model, tmp_path: Path) -> None:
    (tmp_path / "mine.params").write_bytes(CONTENT)
    (tmp_path / "other.params").write_bytes(b"other")
    mine = source.from_file(tmp_path / "mine.params", tmp_path, silent)
    assert (mine.name, mine.sha1, mine.is_published(model)) == ("mine.params", model.entry.params_sha1, True)
    assert not source.from_file(tmp_path / "other.params", tmp_path, silent).is_published(model)


def test_a_file_that_bears_the_published_name_must_be_the_published_one(model: Model, tmp_path: Path) -> None:
    path = tmp_path / model.official_file
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(SourceError, match=f"SHA-1 {model.entry.params_sha1} expected, [0-9a-f]{{40}} found"):
        source.require_genuine(source.from_file(path, tmp_path, silent), model)


def test_what_is_no_file_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(SourceError, match="a file was expected"):
            source.from_file(path, tmp_path, silent)


def test_a_file_is_known_to_be_changed(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "mine.params"
    path.write_bytes(CONTENT)
    found = source.from_file(path, tmp_path, silent)
    source.require_genuine(found, model)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(SourceError, match="changed while it was read"):
        source.require_genuine(found, model)
    path.unlink()
    with pytest.raises(SourceError, match="No such file"):
        source.require_genuine(found, model)


def test_a_download_without_end_is_ended(
    model: Model, cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_PARAMS_BYTES", source.CHUNK)
    serve(mirror, model, bytes(3 * source.CHUNK))
    with pytest.raises(SourceError, match=r"downloading .*: more than 1048576 bytes"):
        fetch(model)
    assert list(cache.iterdir()) == []


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.params: No such file"):
        source.from_file(tmp_path / "none.params", tmp_path, silent)


def test_the_cache_is_where_gluoncv_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source.cache_folder() == tmp_path / ".mxnet" / "models"
    monkeypatch.setenv("MXNET_HOME", "/data/mxnet")
    assert str(source.cache_folder()) == "/data/mxnet/models"


@pytest.mark.usefixtures("mirror")
def test_a_whole_cached_file_is_taken_without_a_download(model: Model, cache: Path) -> None:
    (cache / model.official_file).write_bytes(CONTENT)
    found = fetch(model)
    assert (found.path, found.is_published(model)) == (cache / model.official_file, True)


def test_a_download_is_kept_in_the_cache_under_gluoncvs_name(model: Model, cache: Path, mirror: Path) -> None:
    serve(mirror, model, zipped((model.official_file, CONTENT)))
    found = fetch(model)
    assert found.path == cache / model.official_file
    assert found.is_published(model)
    assert found.path.read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == [model.official_file]


@pytest.mark.usefixtures("cache")
def test_a_download_tells_how_far_it_is(model: Model, mirror: Path) -> None:
    content = zipped((model.official_file, CONTENT))
    serve(mirror, model, content)
    told: list[tuple[str, int, int]] = []
    fetch(model, lambda *step: told.append(step))
    downloading = [step for step in told if step[0] == "downloading"]
    assert downloading[-1] == ("downloading", len(content), len(content))


def test_a_damaged_cached_file_is_replaced_by_a_download(model: Model, cache: Path, mirror: Path) -> None:
    (cache / model.official_file).write_bytes(CONTENT[:-1])
    serve(mirror, model, zipped((model.official_file, CONTENT)))
    assert fetch(model).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "File is not a zip file"),
        (zipped(("a.params", CONTENT))[:200], "File is not a zip file"),
        (zipped(("a.params", CONTENT[:-1])), "SHA-1 [0-9a-f]{40} expected, [0-9a-f]{40} found"),
        (spoilt(zipped(("a.params", CONTENT)), 45), "cannot be unpacked: "),
        (encrypted(zipped(("a.params", CONTENT))), "cannot be unpacked: .* is encrypted"),
        (zipped(("README", CONTENT)), r"a zip with one \.params expected, 0 found"),
        (zipped(("a.params", CONTENT), ("b.params", CONTENT)), r"a zip with one \.params expected, 2 found"),
    ],
)
def test_what_is_not_the_published_file_never_reaches_the_cache(
    model: Model, cache: Path, mirror: Path, content: bytes, message: str
) -> None:
    serve(mirror, model, content)
    with pytest.raises(SourceError, match=message):
        fetch(model)
    assert list(cache.iterdir()) == []


def test_a_member_that_points_out_of_the_folder_goes_nowhere(model: Model, cache: Path, mirror: Path) -> None:
    serve(mirror, model, zipped(("../../escaped.params", CONTENT)))
    fetch(model)
    assert not list(cache.parents[2].rglob("escaped.params"))


def test_a_zip_that_promises_too_much_is_refused(
    model: Model, cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_PARAMS_BYTES", len(CONTENT) - 1)
    serve(mirror, model, zipped(("a.params", CONTENT)))
    with pytest.raises(SourceError, match="is said to have 22000 bytes"):
        fetch(model)
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("mirror")
def test_a_file_the_server_does_not_have_brings_the_three_ways_out(model: Model, cache: Path) -> None:
    expected = (
        rf"(?s)in the cache  {cache}/{model.official_file}: not there\n"
        r"  downloading   http://127\.0\.0\.1:\d+/gluon/models/\S+\.zip: 404 .*"
        r"Three ways out:\n  --params FILE .*\n  MXNET_GLUON_REPO=URL .*\n  --random SEED "
    )
    with pytest.raises(SourceError, match=expected):
        fetch(model)


def test_no_network_brings_the_three_ways_out_and_the_damage_in_the_cache(
    model: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9")
    (cache / model.official_file).write_bytes(b"rotten")
    with pytest.raises(SourceError, match=r"(?s)damaged: its SHA-1 is .*refused.*Three ways out:"):
        fetch(model)
    assert (cache / model.official_file).read_bytes() == b"rotten"


def test_the_bucket_is_gluoncvs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    sha1 = model.entry.params_sha1
    bucket = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
    assert source.download_url(model) == f"{bucket}/gluon/models/resnext50_32x4d-{sha1[:8]}.zip"
