"""Two checkpoints side by side, tensor by tensor, whichever side's names they use."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import CheckpointError, DialectError
from converter.formats import array_comparison, checkpoint
from converter.formats.file_arrays import FileArray
from converter.networks import detection, naming_styles
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.array_comparison import TensorDiff
    from converter.formats.file_arrays import Arrays
    from converter.networks.mapping import Mapping


@dataclass(frozen=True, slots=True)
class CheckpointDiff:
    """What differs: tensors on one side only, tensors that are not the same bits.

    ``mapping`` is the file by which Gluon's names became PyTorch's, where they had to; ``counters`` are those
    of PyTorch's, one for each BatchNorm, that were then left out, for Gluon keeps none.
    """

    compared: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    apart: tuple[TensorDiff, ...]
    mapping: str | None = None
    counters: int = 0

    @property
    def identical(self) -> bool:
        """Whether both hold the same names, types, shapes and bits."""
        return not (self.only_first or self.only_second or self.apart)


def diff(first: Path, second: Path) -> CheckpointDiff:
    """Compare two checkpoints, each ``.safetensors``, ``.pth`` or ``.params`` in any style and container.

    Errors: ``CheckpointError``, ``ParamsError`` or ``SourceError`` where one cannot be read, is changed
    meanwhile, or their names have nothing in common.
    """
    with disk.unchanged(first, CheckpointError), disk.unchanged(second, CheckpointError):
        return _diff(first, second)


def _diff(first: Path, second: Path) -> CheckpointDiff:
    one, other = checkpoint.read(first), checkpoint.read(second)
    one, other = _structural(one, other), _structural(other, one)
    mapping = None
    counters = 0
    if _is_gluons(one) != _is_gluons(other):
        gluon, torch = (one, other) if _is_gluons(one) else (other, one)
        mapping = detection.match_either(gluon.keys(), torch.keys())
    if mapping is not None:
        counters = sum(name in mapping.target_only for name in (*one, *other))
        one, other = _renamed(one, mapping), _renamed(other, mapping)
    if one.keys().isdisjoint(other):
        raise CheckpointError(
            f"{first} and {second}: no name in common, and no mapping makes them the same\n"
            f"  {first.name} has {_example(one)}\n"
            f"  {second.name} has {_example(other)}"
        )
    both = (name for name in one if name in other)
    with contextlib.ExitStack() as stack:
        for storage in {
            array.storage for array in (*one.values(), *other.values()) if isinstance(array, FileArray)
        }:
            stack.enter_context(storage.held())
        differences = [array_comparison.compare(name, one[name], other[name]) for name in both]
    return CheckpointDiff(
        compared=len(one.keys() & other.keys()),
        only_first=tuple(name for name in one if name not in other),
        only_second=tuple(name for name in other if name not in one),
        apart=tuple(found for found in differences if found is not None),
        mapping=mapping.file if mapping else None,
        counters=counters,
    )


def _is_gluons(arrays: Arrays) -> bool:
    """Return whether these are Gluon's names: its BatchNorms have a gamma, PyTorch's a weight."""
    return any(name.endswith("gamma") for name in arrays)


def _structural(arrays: Arrays, beside: Arrays) -> Arrays:
    """Return Gluon's arrays under structural names, whatever their style; all others as they are.

    Where the names may be those of several models, the one that has most in common with ``beside`` is taken.
    """
    if not _is_gluons(arrays):
        return arrays
    try:
        naming = naming_styles.read(arrays, "")
    except DialectError:
        return arrays
    found = [naming.resolve(model.mapping) for model in detection.match_gluon(arrays, naming)]
    names = max(found, key=lambda names: len(names.keys() & beside), default=naming.structural)
    return {name: arrays[file_name] for name, file_name in names.items()} or arrays


def _renamed(arrays: Arrays, mapping: Mapping) -> Arrays:
    """Return the arrays under PyTorch's names, as far as the mapping goes, without PyTorch's counters."""
    target, left_out = mapping.to_target(), set(mapping.target_only)
    return {target.get(name, name): array for name, array in arrays.items() if name not in left_out}


def _example(arrays: Arrays) -> str:
    return next(iter(arrays), "nothing")
