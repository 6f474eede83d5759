"""Parses the values of MXNet's attributes, by the types in an operator's signature."""

from __future__ import annotations

import math
import re
import typing
from typing import TYPE_CHECKING, Literal, NewType

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.graphs.graph import Value

Size = int | tuple[int, ...]  # one number for height and width, or one for each
Pair = int | tuple[int, int]  # the same; MXNet infers from two numbers that the input is an image
Axes = tuple[int, ...]
Bounds = tuple[int | None, ...]  # of a slice
Singles = tuple[float, ...]  # MXNet stores them as float32
Single = NewType("Single", float)  # MXNet stores it as a float32

MAX_VALUE_CHARACTERS = 100
MAX_INTEGER_DIGITS = 20
MAX_INTEGER = 1 << 63  # MXNet and PyTorch have no wider integers
MAX_ELEMENTS = 1 << 28  # that one attribute can ask for: 2 GiB in float64
MAX_AXES = 32  # more than any tensor has
IMAGE_AXES = 2  # height and width
SIZES = (int, Axes, Axes | None, Pair, Size)  # the types of sizes; the ends of slices can have any value


def parse(key: str, text: str, kind: object) -> Value | None:
    """Parse an attribute; return None for MXNet's default.

    Raises:
        ValueError: if the text is not a value of the type.
    """
    try:
        if len(text) > MAX_VALUE_CHARACTERS:
            raise ValueError(text)  # noqa: TRY301 - reported by the caller, with the operator and attribute
        value = None if text == "None" else _parser(kind)(text)
    except ValueError as error:
        raise ValueError(f"{key} has the invalid value {text[:MAX_VALUE_CHARACTERS]!r}") from error
    if kind in SIZES and _elements(value, kind) > MAX_ELEMENTS:
        raise ValueError(f"{key} is too large: {text!r}, at most {MAX_ELEMENTS:,} elements are supported")
    return value


def _elements(value: Value | None, kind: object) -> int:
    """Return the product of the numbers in an attribute, without zeros and signs."""
    numbers = value if isinstance(value, tuple) else (value,) * (IMAGE_AXES if kind in {Pair, Size} else 1)
    return math.prod(abs(number) for number in numbers if isinstance(number, int) and number)


def require_axes(*axes: int) -> None:
    """Check that numbers can be axes, before code with an index for each axis is written.

    Raises:
        ValueError: if one is larger than any tensor's axes.
    """
    if wrong := [axis for axis in axes if not -MAX_AXES <= axis < MAX_AXES]:
        raise ValueError(f"{wrong[0]} is not an axis")


def allows_none(kind: object) -> bool:
    """Return whether ``None`` is a value of a type, and not merely MXNet's word for the default."""
    return type(None) in typing.get_args(kind) and kind is not Bounds


def _parser(kind: object) -> Callable[[str], Value | None]:
    if typing.get_origin(kind) is Literal:
        return lambda text: _choice(text, typing.get_args(kind))
    return _PARSERS[kind]


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(text)
    return text


def _integer(text: str) -> int:
    if not re.fullmatch(rf"[+-]?[0-9]{{1,{MAX_INTEGER_DIGITS}}}L?", text.strip()):
        raise ValueError(text)
    number = int(text.strip().removesuffix("L"))
    if not -MAX_INTEGER <= number < MAX_INTEGER:
        raise ValueError(text)
    return number


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip()):
        raise ValueError(text)
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(text)
    return number


def _single(text: str) -> float:
    number = _number(text)
    if abs(number) > float(np.finfo(np.float32).max):
        raise ValueError(text)
    return float(np.float32(number))


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _axes(text: str) -> Axes:
    """Parse ``(2, 3)``, ``[2,3]``, ``(2L, 3L)`` or ``2``."""
    return tuple(_integer(part) for part in re.split(r"[,\s]+", text.strip("()[] ")) if part)


def _bounds(text: str) -> Bounds:
    """Parse axes, any of which may be ``None``."""
    parts = re.split(r"[,\s]+", text.strip("()[] "))
    return tuple(None if part == "None" else _integer(part) for part in parts if part)


def _singles(text: str) -> Singles:
    """Parse ``(0.1, 0.2)``, ``[0.1,0.2]`` or ``0.1``."""
    return tuple(_single(part) for part in re.split(r"[,\s]+", text.strip("()[] ")) if part)


def _size(text: str) -> Value | None:
    """Parse up to two numbers; equal ones become one, ``()`` means the default."""
    numbers = _axes(text)
    if len(numbers) > IMAGE_AXES:
        raise ValueError(text)
    return None if not numbers else numbers[0] if len(set(numbers)) == 1 else numbers


def _pair(text: str) -> Value | None:
    """Parse two numbers; equal ones become one, ``()`` means the default."""
    if len(_axes(text)) not in {0, IMAGE_AXES}:
        raise ValueError(text)
    return _size(text)


_PARSERS: dict[object, Callable[[str], Value | None]] = {
    int: _integer,
    int | None: _integer,
    float: _number,
    float | None: _number,
    Single: _single,
    Single | None: _single,
    bool: _boolean,
    str: str,
    Axes: _axes,
    Axes | None: _axes,
    Bounds: _bounds,
    Singles: _singles,
    Size: _size,
    Pair: _pair,
}
