"""Links and pipes at output paths: nothing outside is changed, and nothing blocks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from fuzz.targets import limited

from converter.commands import conversion, publication, reverse_conversion
from converter.errors import ArtifactError, PublicationError
from converter.formats.params import write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and pipes")
UNPROVEN = ParityOptions("none")
CONTENT = "somebody else's"
ENDINGS = (".safetensors", ".json", ".pth")


def convert(out: Path) -> conversion.ConversionResult:
    source = ParamsSource(catalog.find("gluon_cifar_resnext29_32x4d"), seed=0)
    return conversion.run(conversion.ConversionRequest(source=source, out=out, options=UNPROVEN, pth=True))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> conversion.ConversionResult:
    return convert(tmp_path_factory.mktemp("converted"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return the target file of a link, in a folder of its own."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "file"
    path.write_text(CONTENT)
    return path


def assert_unchanged(outside: Path) -> None:
    assert outside.read_text() == CONTENT
    assert [*outside.parent.iterdir()] == [outside]


def output_files(result: conversion.ConversionResult) -> dict[str, Path]:
    files = (result.artifact, result.manifest_file, result.pth)
    return {path.suffix: path for path in files if path is not None}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("target", ["file", "not there yet", "."], ids=["file", "nothing", "folder"])
def test_link_at_an_output_path_is_replaced_or_refused_not_followed(
    converted: conversion.ConversionResult, out: Path, outside: Path, ending: str, target: str
) -> None:
    link = out / output_files(converted)[ending].name
    link.symlink_to(outside.parent / target)
    try:
        convert(out)
    except ArtifactError:
        assert target == "."
        assert [*out.iterdir()] == [link]
    else:
        assert link.is_file()
        assert not link.is_symlink()
    assert_unchanged(outside)


def test_pipe_at_the_manifest_path_does_not_block(converted: conversion.ConversionResult, out: Path) -> None:
    os.mkfifo(out / converted.manifest_file.name)
    with limited():
        assert convert(out).manifest_file.is_file()


@pytest.mark.parametrize("target", ["file", "not there yet"])
def test_link_at_a_report_path_is_replaced(out: Path, outside: Path, target: str) -> None:
    link = out / "parity.html"
    link.symlink_to(outside.parent / target)
    disk.write_text(link, "<html>")
    assert (link.is_symlink(), link.read_text()) == (False, "<html>")
    assert_unchanged(outside)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", ["file", "not there yet"])
def test_to_gluon_refuses_a_link(
    converted: conversion.ConversionResult, out: Path, outside: Path, target: str, *, overwrite: bool
) -> None:
    link = out / "back.params"
    link.symlink_to(outside.parent / target)
    with pytest.raises(ArtifactError, match=r"back\.params: exists and is not a regular file"):
        reverse_conversion.run(
            reverse_conversion.ToGluonRequest(
                weights=converted.artifact, out=link, options=UNPROVEN, overwrite=overwrite
            )
        )
    assert link.is_symlink()
    assert_unchanged(outside)


@pytest.fixture
def publish(converted: conversion.ConversionResult) -> Callable[[Path], object]:
    def publish_to(folder: Path) -> object:
        request = publication.PublicationRequest(
            files=(converted.artifact,), folder=folder, allow_random=True, allow_unproven=True, force=True
        )
        return publication.run(request)

    return publish_to


def test_publish_refuses_a_link_in_place_of_its_folder(
    publish: Callable[[Path], object], out: Path, outside: Path
) -> None:
    link = out / "published"
    link.symlink_to(outside.parent)
    with pytest.raises(PublicationError, match="published: exists and is not a folder"):
        publish(link)
    assert_unchanged(outside)


def test_publish_replaces_links_in_its_folder_without_following(
    publish: Callable[[Path], object], out: Path, outside: Path
) -> None:
    folder = out / "published"
    publish(folder)
    card = (folder / "README.md").rename(outside.with_name("card"))
    before = card.read_bytes()
    (folder / "README.md").symlink_to(card)
    publish(folder)
    assert not (folder / "README.md").is_symlink()
    assert card.read_bytes() == before
    card.unlink()
    assert_unchanged(outside)


def test_manifest_naming_a_file_elsewhere_is_refused(
    converted: conversion.ConversionResult, out: Path, outside: Path
) -> None:
    artifact = out / converted.artifact.name
    shutil.copy(converted.artifact, artifact)
    manifest = json.loads(converted.manifest_file.read_text())
    manifest["artifact"]["file"] = f"../outside/{outside.name}"
    (out / converted.manifest_file.name).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"not a manifest: .*artifact\.file"):
        publication.run(
            publication.PublicationRequest(files=(artifact,), folder=out / "published", allow_random=True)
        )
    assert_unchanged(outside)


def test_writer_that_follows_a_link_is_detected(out: Path, outside: Path) -> None:
    link = out / "parity.html"
    link.symlink_to(outside)
    link.write_text("<html>")
    with pytest.raises(AssertionError):
        assert_unchanged(outside)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("linked", [False, True])
def test_source_at_an_output_path_is_not_overwritten(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path, suffix: str, *, linked: bool
) -> None:
    with (tmp_path / "source").open("wb") as stream:
        write_params(stream, tiny_params)
    first = conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, tmp_path / "source"), out=tmp_path / "a", options=UNPROVEN
        )
    )
    out = tmp_path / "out"
    out.mkdir()
    original = named = (tmp_path / "source").rename(out / first.artifact.with_suffix(suffix).name)
    if linked:
        named = tmp_path / "link.params"
        named.symlink_to(original)
    content = original.read_bytes()
    with pytest.raises(ArtifactError, match="the output would overwrite an input"):
        conversion.run(
            conversion.ConversionRequest(source=ParamsSource(tiny, named), out=out, options=UNPROVEN)
        )
    assert original.read_bytes() == content
    assert list(out.iterdir()) == [original]
