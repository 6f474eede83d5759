"""Match a file's arrays with a model: no name missing or unexpected, all shapes and dtypes correct.

The input is the file's arrays by Gluon's names, the output the same arrays by PyTorch's names, not
copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from converter import names
from converter.dtypes import FLOATS
from converter.errors import MappingError

if TYPE_CHECKING:
    from collections import abc
    from collections.abc import Collection, Iterable, Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.networks.mapping import Mapping
    from resnext_torch.config import Shape

A = TypeVar("A", bound="AnyArray")

COUNTER_DTYPE = np.dtype(np.int64)
VARIANCE = "running_var"
EARLIER = "try         a checkpoint from before these values appeared"
MAX_SUGGESTIONS = 10  # with more unexpected names, the file is of another network


def rename(
    mapping: Mapping, params: abc.Mapping[str, A], shapes: dict[str, Shape], file: str
) -> dict[str, A | Array]:
    """Return the arrays by PyTorch's names, in the model's order, with a zero for each counter.

    Args:
        mapping: the model's mapping.
        params: the arrays by Gluon's structural names.
        shapes: the expected shapes, by PyTorch's names.
        file: the file, for messages.

    Raises:
        MappingError: with every missing or unexpected name, or with every array that has a wrong shape
            or dtype, is not finite, or is a negative variance.
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
    """Return a PyTorch state dict in the model's order, with a zero for each missing counter.

    Args:
        mapping: the model's mapping.
        state: the state dict, from any source, in any floating dtype.
        shapes: the expected shapes, by PyTorch's names.
        file: the file, for messages.

    Raises:
        MappingError: with every missing or unexpected name, or with every array that has a wrong shape
            or dtype; values are not checked.
    """
    expected, counters = mapping.to_source(), set(mapping.target_only)
    tensors = [name for name in state if name not in counters]
    _require_names(expected, tensors, f"{file}: the names do not match the model")
    _refuse(
        f"{file}: the arrays do not match the model",
        [
            f"{name}: expected floats of shape {shapes[name]}, found {array.dtype} of shape {array.shape}"
            for name, array in state.items()
            if name in expected and (array.shape != shapes[name] or array.dtype not in FLOATS)
        ]
        + [
            f"{name}: expected an integer scalar, found {state[name].dtype} of shape {state[name].shape}"
            for name in mapping.target_only
            if name in state and (state[name].shape != () or state[name].dtype.kind not in "iu")
        ],
    )
    return {name: state.get(name, np.zeros((), COUNTER_DTYPE)) for name in shapes}


def fits(mapping: Mapping, params: Arrays, shapes: dict[str, Shape]) -> bool:
    """Return whether the arrays match the model by name and shape."""
    expected = {tensor.source: shapes.get(tensor.target) for tensor in mapping.tensors}
    return expected == {name: array.shape for name, array in params.items()}


def _require_complete(mapping: Mapping, params: Arrays, file: str) -> None:
    """Check that the file and the mapping name the same arrays."""
    _require_names(mapping.to_target(), params, f"{file}: the names do not match mappings/{mapping.file}")


def _require_names(expected: Collection[str], actual: Collection[str], headline: str) -> None:
    missing = names.collapse(name for name in expected if name not in actual)
    unexpected = names.collapse(name for name in actual if name not in expected)
    candidates = missing if len(unexpected) <= MAX_SUGGESTIONS else []
    _refuse(
        headline,
        [
            *(f"missing     {pattern}" for pattern in missing),
            *(f"unexpected  {pattern}{_suggestion(pattern, candidates)}" for pattern in unexpected),
        ],
    )


def _require_cover(mapping: Mapping, shapes: dict[str, Shape]) -> None:
    """Check that the mapping file is complete: it names the same tensors as the model."""
    covered = {*mapping.to_source(), *mapping.target_only}
    _refuse(
        f"mappings/{mapping.file}: does not match the PyTorch model",
        [
            *(
                f"not mapped    {pattern}"
                for pattern in names.collapse(name for name in shapes if name not in covered)
            ),
            *(f"not in model  {pattern}" for pattern in names.collapse(sorted(covered - shapes.keys()))),
        ],
    )


def _require_arrays(mapping: Mapping, params: Arrays, shapes: dict[str, Shape], file: str) -> None:
    """Check shapes and dtypes, and if all are correct the values, because an array may be huge."""
    forms = (
        (tensor.source, _form_defects(params[tensor.source], shapes[tensor.target]))
        for tensor in mapping.tensors
    )
    _refuse(f"{file}: the arrays do not match the model", _listed(forms))
    _require_values(
        {tensor.source: (params[tensor.source], tensor.source_role) for tensor in mapping.tensors}, file
    )


def require_usable(mapping: Mapping, state: abc.Mapping[str, AnyArray], file: str) -> None:
    """Check the values of a complete PyTorch state dict.

    Raises:
        MappingError: with every tensor that is not finite, or is a negative variance.
    """
    _require_values(
        {tensor.target: (state[tensor.target], tensor.source_role) for tensor in mapping.tensors}, file
    )


def _require_values(tensors: dict[str, tuple[AnyArray, str]], file: str) -> None:
    """Check arrays, each with its role, by the names that an error shows."""
    if lines := _listed((name, _value_defects(array, role)) for name, (array, role) in tensors.items()):
        _refuse(f"{file}: these weights are not usable", [*lines, EARLIER])


def _listed(defects_by_name: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Return a line for each defect of each pattern of names."""
    names_by_defect: dict[str, list[str]] = {}
    for name, defects in defects_by_name:
        for defect in defects:
            names_by_defect.setdefault(defect, []).append(name)
    return [
        f"{pattern}: {defect}"
        for defect, affected in names_by_defect.items()
        for pattern in names.collapse(affected)
    ]


def _form_defects(array: AnyArray, shape: Shape) -> Iterator[str]:
    if array.shape != shape:
        yield f"expected shape {shape}, found {array.shape}"
    if array.dtype not in FLOATS:
        yield f"expected floats, found {array.dtype}"


def _value_defects(array: AnyArray, role: str) -> Iterator[str]:
    if not _is_finite(numbers := np.asarray(array)):
        yield "contains NaN or infinity"
    elif role == VARIANCE and (numbers < 0).any():
        yield "contains a negative variance"


def _is_finite(array: Array) -> bool:
    """Return whether all values are finite, usually from one sum, without a second array."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _suggestion(pattern: str, missing: list[str]) -> str:
    near = names.nearest(pattern, missing)
    return f"      closest match: {near}" if near else ""


def _refuse(headline: str, lines: list[str]) -> None:
    if lines:
        raise MappingError("\n  ".join([headline, *names.shorten(lines)]))
