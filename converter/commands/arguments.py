"""Convert the plain arguments of the public functions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from converter.errors import UsageError

if TYPE_CHECKING:
    from os import PathLike

E = TypeVar("E", bound=StrEnum)


def optional_path(value: str | PathLike[str] | None) -> Path | None:
    """Return a path, None for None."""
    return None if value is None else Path(value)


def choice(kind: type[E], argument: str, value: str) -> E:
    """Return the member of an enumeration with this value.

    Raises:
        UsageError: if there is none; the message names the argument.
    """
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"`{argument}`: expected {' or '.join(kind)}, found {value!r}") from error
