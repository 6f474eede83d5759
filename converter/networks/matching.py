"""Lay a file's arrays beside what the model expects: complete on both sides, every shape right.

Comes in: the file's arrays by Gluon's names. Goes out: the same arrays by PyTorch's, not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from converter import names
from converter.dtypes import FLOATS
from converter.errors import MappingError

if TYPE_CHECKING:
    from collections import abc
    from collections.abc import Collection, Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.networks.mapping import Mapping
    from resnext_torch.config import Shape

A = TypeVar("A", bound="AnyArray")

COUNTER_DTYPE = np.dtype(np.int64)
VARIANCE = "running_var"
MAX_LINES = 100  # of an error; a file that fits a model needs far fewer


def rename(
    mapping: Mapping, params: abc.Mapping[str, A], shapes: dict[str, Shape], file: str
) -> dict[str, A | Array]:
    """Return the arrays under PyTorch's names, in the model's order, with a zero for each counter.

    ``shapes`` is what the model expects, by PyTorch's names.
    Errors: ``MappingError`` with every name that is missing or unexpected, or every array that has the
    wrong shape or type, or values that no network has.
    """
    _require_cover(mapping, shapes)
    _require_complete(mapping, params, file)
    _require_arrays(mapping, params, shapes, file)
    state: dict[str, A | Array] = {tensor.target: params[tensor.source] for tensor in mapping.tensors}
    state |= {name: np.zeros((), COUNTER_DTYPE) for name in mapping.target_only}
    return {name: state[name] for name in shapes}


def complete(
    mapping: Mapping, state: abc.Mapping[str, A], shapes: dict[str, Shape], file: str
) -> dict[str, A | Array]:
    """Return a PyTorch state, of any author, in the model's order, with a zero for each counter it lacks.

    Errors: ``MappingError`` as of ``rename``; any floating type is taken.
    """
    expected, counters = mapping.to_source(), set(mapping.target_only)
    named = [name for name in state if name not in counters]
    _require_names(expected, named, f"{file}: the names do not fit the model")
    _refuse(
        f"{file}: the arrays do not fit the model",
        [
            f"{name}: floats of shape {shapes[name]} expected, {found.dtype} of shape {found.shape} found"
            for name, found in state.items()
            if name in expected and (found.shape != shapes[name] or found.dtype not in FLOATS)
        ]
        + [
            f"{name}: a whole number expected, {state[name].dtype} of shape {state[name].shape} found"
            for name in mapping.target_only
            if name in state and (state[name].shape != () or state[name].dtype.kind not in "iu")
        ],
    )
    return {name: state.get(name, np.zeros((), COUNTER_DTYPE)) for name in shapes}


def fits(mapping: Mapping, params: Arrays, shapes: dict[str, Shape]) -> bool:
    """Return whether these are the arrays of that model, by name and shape."""
    expected = {tensor.source: shapes.get(tensor.target) for tensor in mapping.tensors}
    return expected == {name: array.shape for name, array in params.items()}


def _require_complete(mapping: Mapping, params: Arrays, file: str) -> None:
    """Check that file and mapping name the same arrays."""
    _require_names(mapping.to_target(), params, f"{file}: the names do not match mappings/{mapping.file}")


def _require_names(expected: Collection[str], found: Collection[str], headline: str) -> None:
    missing = names.collapse(name for name in expected if name not in found)
    unexpected = names.collapse(name for name in found if name not in expected)
    _refuse(
        headline,
        [
            *(f"missing     {pattern}" for pattern in missing),
            *(f"unexpected  {pattern}{_suggestion(pattern, missing)}" for pattern in unexpected[:MAX_LINES]),
            *(f"unexpected  {pattern}" for pattern in unexpected[MAX_LINES:]),
        ],
    )


def _require_cover(mapping: Mapping, shapes: dict[str, Shape]) -> None:
    """Check that mapping and model name the same tensors: the mapping file's own completeness."""
    covered = {*mapping.to_source(), *mapping.target_only}
    _refuse(
        f"mappings/{mapping.file}: does not fit the PyTorch model",
        [
            *(
                f"not mapped  {pattern}"
                for pattern in names.collapse(name for name in shapes if name not in covered)
            ),
            *(f"not there   {pattern}" for pattern in names.collapse(sorted(covered - shapes.keys()))),
        ],
    )


def _require_arrays(mapping: Mapping, params: Arrays, shapes: dict[str, Shape], file: str) -> None:
    offenders: dict[str, list[str]] = {}
    for tensor in mapping.tensors:
        for complaint in _complaints(params[tensor.source], shapes[tensor.target], tensor.source_role):
            offenders.setdefault(complaint, []).append(tensor.source)
    _refuse(
        f"{file}: the arrays do not fit the model",
        [
            f"{pattern}: {complaint}"
            for complaint, tensors in offenders.items()
            for pattern in names.collapse(tensors)
        ],
    )


def _complaints(array: AnyArray, shape: Shape, role: str) -> Iterator[str]:
    if array.shape != shape:
        yield f"shape {shape} expected, {array.shape} found"
    if array.dtype not in FLOATS:
        yield f"floats expected, {array.dtype} found"
    elif array.shape != shape:
        return  # of another size than a network's, perhaps: its numbers are not read
    elif not _is_finite(numbers := np.asarray(array)):
        yield "NaN or infinity found"
    elif role == VARIANCE and (numbers < 0).any():
        yield "a negative variance found"


def _is_finite(array: Array) -> bool:
    """Return whether there is no NaN and no infinity, in most cases by one sum and no second array."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _suggestion(pattern: str, missing: list[str]) -> str:
    near = names.nearest(pattern, missing)
    return f"      nearest: {near}" if near else ""


def _refuse(headline: str, lines: list[str]) -> None:
    if lines:
        raise MappingError("\n  ".join([headline, *names.shorten(lines, MAX_LINES)]))
