"""Statistics of the arrays of a weight file, by their role and their part of the network."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dtypes import FLOATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.networks.catalog import Model
    from converter.networks.naming_styles import NamingStyle

ROLE = re.compile(r"(weight|bias|gamma|beta|running_mean|running_var)$")
PIECE_NUMBERS = 1 << 20  # elements converted to float64 at a time


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """Statistics of the arrays of one role in one part of a network, over their finite elements.

    Attributes:
        part: part of the network, "all" if the model is unknown.
        role: role by Gluon's names; without a model, by the names in the file.
        arrays: number of arrays.
        numbers: number of elements, including those that are not finite.
        mean: mean.
        deviation: standard deviation.
        least: minimum.
        largest: maximum.
        zeros: number of zeros.
        not_finite: number of elements that are not finite.
    """

    part: str
    role: str
    arrays: int
    numbers: int
    mean: float
    deviation: float
    least: float
    largest: float
    zeros: int
    not_finite: int


def summarize(
    arrays: Arrays, models: tuple[Model, ...], naming: NamingStyle | None
) -> Iterator[TensorSummary]:
    """Summarize the arrays by part and role, in the network's order; without a model by role alone.

    Args:
        arrays: the arrays by their names in the file.
        models: the models that they match.
        naming: the style of these names, None for PyTorch's.
    """
    places = _places(models[0], naming) if models else {}
    groups: dict[tuple[str, str], list[AnyArray]] = {}
    for name, array in arrays.items():
        if array.dtype in FLOATS:
            groups.setdefault(places.get(name) or ("all", _role(name)), []).append(array)
    order = list(dict.fromkeys(places.values()))
    for (part, role), group in sorted(
        groups.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order)
    ):
        yield _summary(part, role, group)


def _role(name: str) -> str:
    match = ROLE.search(name)
    return match[0] if match else "other"


def _places(model: Model, naming: NamingStyle | None) -> dict[str, tuple[str, str]]:
    """Return the part and the role of every array, by the file's names.

    Roles are by Gluon's names, which are more specific than PyTorch's.
    """
    tensors = model.mapping.tensors
    if naming is None:
        return {tensor.target: (tensor.layer.part, tensor.source_role) for tensor in tensors}
    file_names = naming.resolve(model.mapping)  # lacks a bias that the file lacks
    return {
        file_names[tensor.source]: (tensor.layer.part, tensor.source_role)
        for tensor in tensors
        if tensor.source in file_names
    }


def _summary(part: str, role: str, group: list[AnyArray]) -> TensorSummary:
    """Summarize arrays, converting only a piece of them to float64 at a time."""
    numbers = sum(array.size for array in group)
    count, total, zeros = 0, 0.0, 0
    least, largest = math.inf, -math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        for finite in _finite_numbers(group):
            count, zeros = count + finite.size, zeros + int((finite == 0).sum())
            total += float(finite.sum())
            least, largest = min(least, finite.min(initial=least)), max(largest, finite.max(initial=largest))
        mean = total / count if count else 0.0
        squares = sum(float(np.square(finite - mean).sum()) for finite in _finite_numbers(group))
    spread = math.sqrt(squares / count) if count and squares >= 0 else 0.0
    if not count:
        least = largest = 0.0
    return TensorSummary(
        part, role, len(group), numbers, mean, spread, float(least), float(largest), zeros, numbers - count
    )


def _finite_numbers(group: list[AnyArray]) -> Iterator[Array]:
    """Yield the finite elements of arrays in float64, piece by piece."""
    for array in group:
        numbers = np.asarray(array).reshape(-1)
        for begin in range(0, numbers.size, PIECE_NUMBERS):
            wide = numbers[begin : begin + PIECE_NUMBERS].astype(np.float64)
            yield wide[np.isfinite(wide)]
