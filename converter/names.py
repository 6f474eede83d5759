"""Shorten lists of tensor names to readable patterns, such as ``features.{4…7}.0.body.7.gamma``."""

from __future__ import annotations

import difflib
import itertools
import math
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Words = tuple[str | None, ...]  # the parts of a name, None for a number


MAX_DIGITS = 9
MAX_PARTS = 32  # of a name; ours have seven
MAX_CHARACTERS = 1000  # of a line; ours have a hundred
MAX_LINES = 10_000  # of a message, so that a hostile file cannot fill the memory; the console prints ten


def collapse(names: Iterable[str]) -> list[str]:
    """Return patterns that match exactly these names, with ranges of numbers in braces.

    Names for which some combination of the ranges is missing are split into several patterns.
    """
    groups: dict[Words, list[tuple[int, ...]]] = {}
    for name in names:
        parts = printable(name).split(".", MAX_PARTS)
        words = tuple(None if _is_index(part) else part for part in parts)
        groups.setdefault(words, []).append(tuple(int(part) for part in parts if _is_index(part)))
    return [
        ".".join(_fill(words, ranges))
        for words, indices in groups.items()
        for ranges in _boxes(sorted(set(indices)))
    ]


def differences(missing: Iterable[str], unexpected: Iterable[str]) -> list[str]:
    """Return a line for each pattern of the missing and the unexpected names."""
    return [
        *(f"missing     {pattern}" for pattern in collapse(missing)),
        *(f"unexpected  {pattern}" for pattern in collapse(unexpected)),
    ]


def shorten(lines: list[str], limit: int = MAX_LINES) -> list[str]:
    """Return the first lines, clipped and printable, and the number of further lines."""
    more = [f"and {len(lines) - limit} more"] if len(lines) > limit else []
    return [*(printable(clipped(line)) for line in lines[:limit]), *more]


def clipped(text: str) -> str:
    """Return a text, cut off after ``MAX_CHARACTERS``: names in files can have any length."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def printable(text: str) -> str:
    """Escape the unprintable characters of a text: names in files can contain control characters."""
    if text.isprintable():  # as almost all are: ten times faster
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the first candidate that begins with ``name``, else the most similar one, else None."""
    options = list(candidates)
    longer = [candidate for candidate in options if candidate.startswith(name)]
    matches = longer or difflib.get_close_matches(name, options, n=1)
    return matches[0] if matches else None


def _boxes(indices: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Split sorted index tuples into boxes; a box is the product of one set of numbers per position."""
    ranges = [tuple(sorted(set(column))) for column in zip(*indices, strict=True)]
    if math.prod(len(numbers) for numbers in ranges) == len(indices):
        return [ranges]
    position = next(place for place, numbers in enumerate(ranges) if len(numbers) > 1)
    # Sorted indices that are equal before a position are also sorted by it.
    groups = itertools.groupby(indices, key=operator.itemgetter(position))
    return [box for _, group in groups for box in _boxes(list(group))]


def _is_index(part: str) -> bool:
    """Return whether a part is a number without leading zeros."""
    return len(part) <= MAX_DIGITS and part.isascii() and part.isdecimal() and str(int(part)) == part


def _fill(words: Words, ranges: list[tuple[int, ...]]) -> list[str]:
    remaining = iter(ranges)
    return [_braces(next(remaining)) if word is None else word for word in words]


def _braces(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    contiguous = numbers[-1] - numbers[0] == len(numbers) - 1
    return f"{{{numbers[0]}…{numbers[-1]}}}" if contiguous else f"{{{','.join(map(str, numbers))}}}"
