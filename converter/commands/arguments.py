"""Convert the plain arguments of the public functions."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from converter.errors import UsageError
from converter.formats import weights_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

E = TypeVar("E", bound=StrEnum)


def to_path(value: str | PathLike[str]) -> Path:
    """Return a path.

    Raises:
        UsageError: if it contains a null character, which no operating system allows.
    """
    result = Path(value)
    if "\0" in str(result):
        raise UsageError(f"a path cannot contain a null character: {str(result)!r}")
    return result


def to_text(value: str | PathLike[str]) -> str:
    """Return a path as text; a separator at its end, which marks a folder, is kept.

    Raises:
        UsageError: as ``to_path``.
    """
    to_path(value)
    return os.fspath(value)


def optional_path(value: str | PathLike[str] | None) -> Path | None:
    """Return a path, None for None.

    Raises:
        UsageError: as ``to_path``.
    """
    return None if value is None else to_path(value)


def to_weights(value: str | PathLike[str]) -> Path:
    """Return the file of weights that a path names, or the only one in the folder that it names.

    Raises:
        UsageError: as ``to_path``.
        CheckpointError: if a folder contains no weights, or several.
    """
    return weights_folder.find_weights(to_path(value))


def optional_weights(value: str | PathLike[str] | None) -> Path | None:
    """Return the file of weights, None for None.

    Raises:
        UsageError: as ``to_path``.
        CheckpointError: as ``to_weights``.
    """
    return None if value is None else to_weights(value)


def require_one_side(weights: object, module: object, key: str | None) -> None:
    """Check that one thing at most is compared with, and that a key belongs to a checkpoint.

    Raises:
        UsageError: if the arguments contradict each other.
    """
    if weights is not None and module is not None:
        raise UsageError("`weights` and `module` cannot be used together", "weights", "module")
    if key is not None and weights is None:
        raise UsageError("`key` requires `weights`", "key", "weights")


def choice(kind: type[E], argument: str, value: str) -> E:
    """Return the member of an enumeration with this value.

    Raises:
        UsageError: if there is none; the message names the argument.
    """
    try:
        return kind(value)
    except ValueError as error:
        message = f"`{argument}`: expected {', '.join(kind)}, found {value!r}"
        raise UsageError(message, argument) from error


def choices(kind: type[E], argument: str, values: Iterable[str]) -> tuple[E, ...]:
    """Return the members of an enumeration with these values, each once.

    Raises:
        UsageError: if there is none for a value, or if the values are one text.
    """
    if isinstance(values, str):
        raise UsageError(f"`{argument}`: expected a list of names, found {values!r}", argument)
    return tuple(dict.fromkeys(choice(kind, argument, value) for value in values))
