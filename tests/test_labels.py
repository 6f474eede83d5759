from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from converter.commands import conversion
from converter.errors import LabelsError, StorageError
from converter.formats import labels
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

NAMES = ("tench", "great white shark", "crêpe")
TEXT = "tench\ngreat white shark\ncrêpe\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.rstrip().encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.replace("\n", "\r\n").encode(),
        b"  tench\t\n great white shark \ncr\xc3\xaape \n",
    ],
    ids=["lines", "no last newline", "BOM", "CRLF", "surrounding spaces"],
)
def test_text_has_a_class_per_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    assert labels.read(path, 3) == NAMES


@pytest.mark.parametrize(
    "content",
    [list(NAMES), dict(zip("012", NAMES, strict=True)), dict(zip("210", NAMES[::-1], strict=True))],
    ids=["list", "object", "object out of order"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_has_a_list_or_a_numbered_object(content: object, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content), encoding=encoding)
    assert labels.read(path, 3) == NAMES


def test_numbered_object_is_sorted_numerically(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({str(number): f"class {number}" for number in range(12)}))
    assert labels.read(path, 12) == tuple(f"class {number}" for number in range(12))


def test_duplicate_names_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("crane\ncrane\n")
    assert labels.read(path, 2) == ("crane", "crane")


@pytest.mark.parametrize(("classes", "found"), [(2, 3), (4, 3), (1000, 3)])
@pytest.mark.parametrize("ending", ["txt", "json"])
def test_wrong_number_of_names_is_refused(classes: int, found: int, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"classes.{ending}"
    path.write_text(json.dumps(NAMES) if ending == "json" else TEXT, encoding="utf-8")
    with pytest.raises(
        LabelsError, match=rf"classes\.{ending}: expected {classes} class names, .*; found {found}$"
    ):
        labels.read(path, classes)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.touch()
    with pytest.raises(LabelsError, match=r"expected 3 class names, .*; found 0$"):
        labels.read(path, 3)


@pytest.mark.parametrize(
    ("name", "content", "number"),
    [
        ("classes.txt", "tench\n\ncrêpe\n", 1),
        ("classes.txt", "tench\nshark\n \t\n", 2),
        ("classes.txt", "tench\nshark\ncrêpe\n\n", 3),
        ("classes.json", '["", "shark", "crêpe"]', 0),
        ("classes.json", '["tench", "", ""]', 1),
    ],
    ids=["empty line", "blank line", "extra line", "empty string", "two empty strings"],
)
def test_class_without_a_name_is_refused(name: str, content: str, number: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabelsError, match=rf": the name of class {number} is empty$"):
        labels.read(path, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["tench", "shark"', "invalid JSON: Expecting ',' delimiter: line 1"),
        ("", "invalid JSON: Expecting value"),
        ("[" * 100_000, "invalid JSON: .* while decoding a JSON array"),
        ('["tench", "shark", ' + "[" * 100_000, "invalid JSON: .* while decoding a JSON array"),
        (f'["tench", "shark", {"[" * 10}{"]" * 10}]', "expected a list of class names"),
        ('"tench"', "expected a list of class names"),
        ("3", "expected a list of class names"),
        ("null", "expected a list of class names"),
        ('["tench", 1, "crêpe"]', "expected a list of class names"),
        ('[["tench"], ["shark"], ["crêpe"]]', "expected a list of class names"),
        ('{"0": "tench", "1": 1, "2": "crêpe"}', "expected a list of class names"),
        ('{"1": "tench", "2": "shark", "3": "crêpe"}', 'expected the keys "0" to "2"$'),
        ('{"tench": 0, "shark": 1, "crêpe": 2}', 'expected the keys "0" to "2"$'),
        ('{"0": "tench", "01": "shark", "2": "crêpe"}', 'expected the keys "0" to "2"$'),
    ],
    ids=lambda value: value[:40],  # the nested ones are long
)
def test_other_json_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabelsError, match=rf"classes\.json: {message}"):
        labels.read(path, 3)


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_other_encoding_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(TEXT.encode("latin-1"))
    with pytest.raises(LabelsError, match=rf"{name}: not UTF-8: invalid continuation byte"):
        labels.read(path, 3)


def test_too_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    with path.open("wb") as stream:
        stream.truncate(labels.MAX_BYTES)
    with pytest.raises(LabelsError, match=r"the class name '\\x00"):
        labels.read(path, 3)
    with path.open("wb") as stream:
        stream.truncate(labels.MAX_BYTES + 1)
    with pytest.raises(StorageError, match=rf"more than {1 << 22} bytes"):
        labels.read(path, 3)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.txt: No such file or directory"):
        labels.read(tmp_path / "none.txt", 3)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not a regular file"):
        labels.read(tmp_path, 3)


@pytest.mark.parametrize("count", [9, 10, 11])
def test_labels_reach_the_manifest_if_their_number_matches(count: int, tiny: Model, tmp_path: Path) -> None:
    names = [f"Klasse {number} ä" for number in range(count)]
    (tmp_path / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    options, out = ParityOptions("none"), tmp_path / "out"
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, seed=0), out=out, options=options, labels=tmp_path / "classes.txt"
    )
    if count == 10:
        assert json.loads(conversion.run(request).manifest_file.read_text("utf-8"))["labels"] == names
    else:
        with pytest.raises(LabelsError, match=rf"expected 10 class names, .*; found {count}$"):
            conversion.run(request)
        assert not out.exists()


def test_manifest_size_is_counted_in_utf8_bytes() -> None:
    letters = labels.MAX_BYTES // 4  # two bytes each in UTF-8, six as escapes
    labels.require_valid(("é" * letters,), "classes")
    with pytest.raises(
        LabelsError, match=f"classes: the class names take more than {labels.MAX_BYTES} bytes in a manifest"
    ):
        labels.require_valid(("é" * 2 * letters,), "classes")


def test_labels_of_the_maximum_size_are_accepted() -> None:
    around = len('    "",\n\n\n')  # around a label and the list
    labels.require_valid(("x" * (labels.MAX_BYTES - around),), "classes")
    with pytest.raises(LabelsError, match="in a manifest"):
        labels.require_valid(("x" * (labels.MAX_BYTES - around + 1),), "classes")
