"""Read the class names of a fine-tuned network from a text file, one per line, or from JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from converter.errors import LabelsError
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

WORDNET = re.compile(r"n\d{8}\s+(\S.*)", re.ASCII | re.DOTALL)  # a line of ImageNet's synset.txt
MAX_BYTES = 1 << 22  # a hundred thousand names of forty characters


def read(path: Path, classes: int) -> tuple[str, ...]:
    """Return the class names in the order of the classes.

    A ``.json`` file contains a list of names, or an object with the keys "0", "1", …; any other file
    contains one name per line.

    Raises:
        StorageError: if the file cannot be read.
        LabelsError: if a name is invalid, or their number is not ``classes``.
    """
    return _checked(_entries(path), classes, str(path))


def read_any(path: Path) -> tuple[str, ...]:
    """Return class names as ``read`` does, whatever their number.

    Raises:
        StorageError: if the file cannot be read.
        LabelsError: if a name is invalid.
    """
    entries = _entries(path)
    return _checked(entries, len(entries), str(path))


def _entries(path: Path) -> list[str]:
    text = _decode(disk.read_small(path, MAX_BYTES), str(path))
    return _from_json(path, text) if path.suffix == ".json" else _lines(text)


def parse_list(content: bytes, classes: int, place: str) -> tuple[str, ...]:
    """Return the class names of a list that is packed with the parameters, one name per line.

    The WordNet IDs that begin the lines of ImageNet's ``synset.txt`` are left out, if every line has one:
    they are no names.

    Raises:
        LabelsError: if a name is invalid, or their number is not ``classes``.
    """
    return _checked(_without_ids(_lines(_decode(content, place))), classes, place)


def parse_any_list(content: bytes, place: str) -> tuple[str, ...]:
    """Return class names as ``parse_list`` does, whatever their number.

    Raises:
        LabelsError: if a name is invalid.
    """
    entries = _without_ids(_lines(_decode(content, place)))
    return _checked(entries, len(entries), place)


def _without_ids(entries: list[str]) -> list[str]:
    """Return the descriptions of WordNet's classes; the entries as they are if one has no ID."""
    matches = [WORDNET.fullmatch(entry) for entry in entries]
    descriptions = [match[1] for match in matches if match]
    return descriptions if len(descriptions) == len(entries) else entries


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{place}: not UTF-8: {error.reason}") from error


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text.strip() else []


def _checked(entries: list[str], classes: int, place: str) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in entries)
    require_valid(labels, place)
    if len(labels) != classes:
        raise LabelsError(
            f"{place}: expected {classes} class names, one per class of the head; found {len(labels)}"
        )
    return labels


def require_valid(labels: tuple[str, ...], place: str) -> None:
    """Check class names, whatever file they come from.

    Raises:
        LabelsError: if a name is empty, not printable or surrounded by spaces, or if all are too long.
    """
    if unprintable := [label for label in labels if not label.isprintable()]:
        raise LabelsError(f"{place}: the class name {unprintable[0]!a} has unprintable characters")
    if empty := [number for number, label in enumerate(labels) if not label]:
        raise LabelsError(f"{place}: the name of class {empty[0]} is empty")
    if spaced := [label for label in labels if label != label.strip()]:
        raise LabelsError(f"{place}: the class name {spaced[0]!a} begins or ends with a space")
    # In a manifest, each name has its own line: four spaces, quotes, a comma and a line break.
    if sum(len(json.dumps(label, ensure_ascii=False).encode()) + 6 for label in labels) + 2 > MAX_BYTES:
        raise LabelsError(f"{place}: the class names take more than {MAX_BYTES} bytes in a manifest")


def _from_json(path: Path, text: str) -> list[str]:
    try:
        content = json.loads(text, object_pairs_hook=_unique_object)
    except (ValueError, RecursionError) as error:
        raise LabelsError(f"{path}: invalid JSON: {error}") from error
    if isinstance(content, dict):
        numbers = [str(number) for number in range(len(content))]
        if content.keys() != set(numbers):
            raise LabelsError(f'{path}: expected the keys "0" to "{len(content) - 1}"')
        content = [content[number] for number in numbers]
    if not isinstance(content, list) or not all(isinstance(label, str) for label in content):
        raise LabelsError(f"{path}: expected a list of class names")
    return content


def _unique_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object as a dictionary.

    Raises:
        ValueError: if a key occurs twice.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content
