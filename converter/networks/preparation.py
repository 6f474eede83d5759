"""Split arrays into network parameters, duplicates and the constants of a normalization."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dtypes import FLOATS
from converter.errors import DialectError, MappingError
from converter.formats import array_comparison

if TYPE_CHECKING:
    from converter.formats.file_arrays import AnyArray, Arrays

SAVED = "  try         the .params that net.save_parameters writes"
ARGUMENT, AUXILIARY = "arg:", "aux:"
CONSTANT = re.compile(r"(?P<block>(?:arg:|aux:)?(?:.*[._])?)init_(?P<role>mean|scale)")
CHANNELS = 3
MAX_INTENSITY = 255  # of a pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedNormalization:
    """The normalization of images that ``gluoncv.utils.export_block`` puts before a network.

    Attributes:
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
        names: the names of the two constants in the file.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedArrays:
    """The arrays of a file.

    Attributes:
        arrays: the parameters by their names in the file.
        preprocessing: the normalization of images before the network, None if the file has none.
        twins: names that occur with ``arg:`` and with ``aux:``, with equal values; the arrays are those of
            ``arg:``.
    """

    arrays: Arrays
    preprocessing: ExportedNormalization | None = None
    twins: tuple[str, ...] = ()


def prepare(arrays: Arrays, file: str) -> PreparedArrays:
    """Split the arrays into network parameters, duplicates and normalization constants.

    Raises:
        DialectError: if a name occurs with ``arg:`` and with ``aux:``, and the values differ.
        MappingError: if a constant of the preprocessing is not usable.
    """
    twins = tuple(
        name
        for name in arrays
        if name.startswith(AUXILIARY) and f"{ARGUMENT}{name.removeprefix(AUXILIARY)}" in arrays
    )
    for name in twins:
        argument = f"{ARGUMENT}{name.removeprefix(AUXILIARY)}"
        if array_comparison.compare(name, arrays[name], arrays[argument]) is not None:
            raise DialectError(f"{file}: {argument} and {name} have different values\n{SAVED}")
    constants = _constants(arrays)
    kept = {name: array for name, array in arrays.items() if name not in {*twins, *constants}}
    preprocessing = _preprocessing(arrays, constants, file) if constants else None
    return PreparedArrays(arrays=kept, preprocessing=preprocessing, twins=twins)


def _constants(arrays: Arrays) -> tuple[str, str] | tuple[()]:
    """Return the names of the mean and the scale of one block, empty if there is no single such block."""
    blocks: dict[str, dict[str, str]] = {}
    for name in arrays:
        if match := CONSTANT.fullmatch(name):
            blocks.setdefault(match["block"], {})[match["role"]] = name
    complete = (roles for roles in blocks.values() if roles.keys() == {"mean", "scale"})
    pairs = [(roles["mean"], roles["scale"]) for roles in complete]
    return pairs[0] if len(pairs) == 1 else ()


def _preprocessing(arrays: Arrays, names: tuple[str, str], file: str) -> ExportedNormalization:
    mean, scale = (_values(name, arrays[name], file) for name in names)
    if min(scale) <= 0:
        raise MappingError(
            f"{file}: {names[1]}: expected positive standard deviations, found {list(scale)}\n{SAVED}"
        )
    mean, std = (tuple(value / MAX_INTENSITY for value in values) for values in (mean, scale))
    return ExportedNormalization(mean=mean, std=std, names=names)


def _values(name: str, array: AnyArray, file: str) -> tuple[float, ...]:
    """Return the values of a constant, one per channel, with the decimals of their dtype."""
    if array.size != CHANNELS or max(array.shape) != CHANNELS or array.dtype not in FLOATS:
        raise MappingError(
            f"{file}: {name}: expected {CHANNELS} floats, one per channel; "
            f"found {array.dtype} of shape {array.shape}"
        )
    values = np.asarray(array).reshape(-1)
    if not np.isfinite(values).all():
        raise MappingError(f"{file}: {name}: contains NaN or infinity")
    return tuple(float(str(value)) for value in values)
