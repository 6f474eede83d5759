"""Class names that are packed with the parameters become the labels of the conversion."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from test_archives import CONTENT
from test_detect import tarred
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion
from converter.errors import LabelsError, SourceError
from converter.formats import archives, labels
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.commands.conversion import ConversionResult
    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Convert = Callable[..., ConversionResult]

TEN = tuple(f"kind {number}" for number in range(10))


def text(names: tuple[str, ...]) -> bytes:
    return "\n".join(names).encode()


@pytest.fixture
def convert(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> Convert:
    """Return a function that converts an archive of the tiny model's parameters and other members."""
    params = write(tiny_params).read_bytes()

    def run(*members: tuple[str, bytes], given: Path | None = None) -> ConversionResult:
        packed = tmp_path / "model.mar"
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in [("net-0000.params", params), *members]:
                archive.writestr(name, content)
        request = conversion.ConversionRequest(
            source=ParamsSource(tiny, packed),
            out=tmp_path / "out",
            options=ParityOptions("none"),
            labels=given,
        )
        return conversion.run(request)

    return run


@pytest.mark.parametrize("name", archives.CLASS_LISTS)
def test_class_list_in_the_archive_is_used(name: str, convert: Convert) -> None:
    result = convert((f"a/{name}", text(TEN)))
    assert result.manifest.labels == TEN
    assert result.class_list == f"10 class names from a/{name} in model.mar"


def test_other_text_file_is_not_a_class_list(convert: Convert) -> None:
    result = convert(("readme.txt", text(TEN)), ("my_synset.txt", text(TEN)))
    assert (result.manifest.labels, result.class_list) == (None, "")


def test_class_list_of_another_length_is_not_used(convert: Convert) -> None:
    result = convert(("synset.txt", text(TEN[:9])))
    assert result.manifest.labels is None
    assert result.class_list == (
        "not used: synset.txt in model.mar: expected 10 class names, one per class of the head; found 9"
    )


@pytest.mark.parametrize("content", [b"\xff\xfe", b" ", b"a\n\nb", b"a\x1b[31m\nb"])
def test_invalid_class_list_is_not_used(content: bytes, convert: Convert) -> None:
    result = convert(("synset.txt", content))
    assert result.manifest.labels is None
    assert result.class_list.startswith("not used: synset.txt in model.mar: ")


def test_list_of_the_right_length_is_used(convert: Convert) -> None:
    result = convert(("labels.txt", text(TEN)), ("synset.txt", text(TEN[:3])), ("b/classes.txt", text(TEN)))
    assert result.manifest.labels == TEN


def test_lists_that_differ_are_not_used(convert: Convert) -> None:
    result = convert(("labels.txt", text(tuple(reversed(TEN)))), ("b/classes.txt", text(TEN)))
    assert result.manifest.labels is None
    lists = "b/classes.txt in model.mar and labels.txt in model.mar"
    assert result.class_list == f"not used: {lists} differ; select one with --labels"


def test_given_labels_take_precedence(convert: Convert, tmp_path: Path) -> None:
    mine = tuple(name.upper() for name in TEN)
    (tmp_path / "mine.txt").write_bytes(text(mine))
    result = convert(("synset.txt", text(TEN)), given=tmp_path / "mine.txt")
    assert (result.manifest.labels, result.class_list) == (mine, "")


def test_source_of_the_class_names_is_printed(
    convert: Convert, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(("synset.txt", text(TEN)))
    monkeypatch.setattr("converter.networks.catalog.models", lambda: {tiny.name: tiny})
    command = ["convert", "tiny", str(tmp_path / "new"), "--params", str(tmp_path / "model.mar")]
    result = CliRunner().invoke(app, [*command, "--reference", "none"])
    assert result.exit_code == 0, result.stderr
    assert "labels  10 class names from synset.txt in model.mar" in result.stdout.splitlines()


IMAGENET = ("n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus")


def test_wordnet_ids_are_left_out_if_every_line_has_one() -> None:
    names = ("tench, Tinca tinca", "goldfish, Carassius auratus")
    assert labels.parse_list(text(IMAGENET), 2, "synset.txt") == names
    mixed = (IMAGENET[0], "goldfish, Carassius auratus")
    assert labels.parse_list(text(mixed), 2, "synset.txt") == mixed
    bare = ("n01440764", "n01443537")
    assert labels.parse_list(text(bare), 2, "synset.txt") == bare
    assert labels.parse_list(b"n014407641 a\nn01443537 b", 2, "a") == ("n014407641 a", "n01443537 b")


def test_list_keeps_to_the_rules_of_a_labels_file() -> None:
    assert labels.parse_list(b"\xef\xbb\xbfa \r\n b\r\n", 2, "a") == ("a", "b")
    with pytest.raises(LabelsError, match="a: the name of class 1 is empty"):
        labels.parse_list(b"a\n\n", 2, "a")


def test_class_lists_count_towards_the_limit_of_documents(tmp_path: Path) -> None:
    large = b"a\n" * (archives.MAX_DOCUMENT_BYTES // 2)
    members = [(f"{number}/synset.txt", large) for number in range(5)]
    packed = tmp_path / "a.tar"
    packed.write_bytes(tarred(("a.params", CONTENT), *members[:4]))
    assert len(archives.unpack(packed, tmp_path / "unpacked", silent).class_lists) == 4
    packed.write_bytes(tarred(("a.params", CONTENT), *members))
    with pytest.raises(SourceError, match="contains more than"):
        archives.unpack(packed, tmp_path / "unpacked", silent)
    packed.write_bytes(tarred(("a.params", CONTENT), ("synset.txt", large + b"a")))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).class_lists == {}
