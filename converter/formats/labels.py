"""The names of a fine-tuned network's classes, from a file: a line each, or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from converter.errors import LabelsError
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 22  # a hundred thousand classes of forty letters


def read(path: Path, classes: int) -> tuple[str, ...]:
    """Return the class names in the order of the classes.

    A ``.json`` holds a list of them, or an object from "0", "1", … to them; any other file one on each line.
    Errors: ``LabelsError`` where it holds something else, or not as many as there are classes.
    """
    try:
        text = disk.read_small(path, MAX_BYTES, LabelsError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path}: not UTF-8: {error.reason}") from error
    lines = text.removesuffix("\n").split("\n") if text.strip() else []
    found = _from_json(path, text) if path.suffix == ".json" else lines
    labels = tuple(label.strip() for label in found)
    require_valid(labels, str(path))
    if len(labels) != classes:
        raise LabelsError(
            f"{path}: {classes} class names expected, for so many classes has the head; {len(labels)} found"
        )
    return labels


def require_valid(labels: tuple[str, ...], place: str) -> None:
    """Refuse what cannot be the names of classes, whatever file they are in.

    Raises:
        LabelsError: if a name is empty, not printable or surrounded by spaces, or all are too long.
    """
    if strange := [label for label in labels if not label.isprintable()]:
        raise LabelsError(f"{place}: no class is called {strange[0]!a}")
    if empty := [number for number, label in enumerate(labels) if not label]:
        raise LabelsError(f"{place}: class {empty[0]} has no name")
    if spaced := [label for label in labels if label != label.strip()]:
        raise LabelsError(f"{place}: the class {spaced[0]!a} has spaces around its name")
    # In a manifest: each on a line of its own, indented by four, in quotes, with a comma.
    if sum(len(json.dumps(label, ensure_ascii=False).encode()) + 6 for label in labels) + 2 > MAX_BYTES:
        raise LabelsError(f"{place}: more than {MAX_BYTES} bytes in a manifest")


def _from_json(path: Path, text: str) -> list[str]:
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise LabelsError(f"{path}: no JSON: {error}") from error
    if isinstance(content, dict):
        numbers = [str(number) for number in range(len(content))]
        if content.keys() != set(numbers):
            raise LabelsError(f'{path}: the keys "0" to "{len(content) - 1}" expected')
        content = [content[number] for number in numbers]
    if not isinstance(content, list) or not all(isinstance(label, str) for label in content):
        raise LabelsError(f"{path}: a list of class names expected")
    return content


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON whose keys are all different. Errors: ``ValueError``."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found
