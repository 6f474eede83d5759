"""Computes the state dict of a target from the parameters of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.alignment.rules import Assignment

MAX_LINES = 8  # of an error


def state_arrays(
    module: nn.Module, assignments: Mapping[str, Assignment], arrays: Arrays, ones: Collection[str]
) -> Iterator[tuple[str, AnyArray]]:
    """Yield the state dict of a module, in its order; buffers that no layer takes keep the module's values.

    Args:
        module: the module, as it was built.
        assignments: how its tensors are computed.
        arrays: the parameters of the graph, by variable.
        ones: the variables in whose place the graph takes ones.

    Raises:
        MappingError: if a tensor of the module gets no value, or if a shape does not fit.
    """
    state = module.state_dict()
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    same = {tensor.data_ptr(): name for name, tensor in state.items() if name in assignments}
    _require_complete(module, [name for name in parameters if _origin(name, state, same) not in assignments])
    for name, tensor in state.items():
        origin = _origin(name, state, same)
        if origin in assignments:
            yield name, _computed(assignments[origin], arrays, ones)
        else:
            yield name, tensor.detach().numpy()


def _origin(name: str, state: Mapping[str, torch.Tensor], same: Mapping[int, str]) -> str:
    """Return the name of a tensor, or the assigned name of the same one if a module has it twice."""
    return same.get(state[name].data_ptr(), name) if name in state and state[name].numel() else name


def _computed(assignment: Assignment, arrays: Arrays, ones: Collection[str]) -> AnyArray:
    if assignment.source is None:
        return np.zeros(assignment.shape, arrays[assignment.like].dtype)
    array = arrays[assignment.source]
    if _without_kernel(array.shape) != _without_kernel(assignment.shape):
        raise MappingError(
            f"{assignment.target}: expected the shape {assignment.shape}, "
            f"found {tuple(array.shape)} in {assignment.source}"
        )
    if assignment.source in ones:
        return np.ones(assignment.shape, array.dtype)
    if assignment.minus is not None:  # in float64, in which the difference of two float32 is not rounded
        bias = np.asarray(arrays[assignment.minus]).astype(np.float64)
        return (np.asarray(array).astype(np.float64) - bias).reshape(assignment.shape)
    if tuple(array.shape) == tuple(assignment.shape):
        return array
    return np.asarray(array).reshape(assignment.shape)


def _without_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a weight without that of a 1×1 kernel: that of the equal dense layer."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _require_complete(module: nn.Module, missing: list[str]) -> None:
    """Check that every parameter gets a value.

    Raises:
        MappingError: with those that do not: the module did not use them.
    """
    if missing:
        order = names.collapse([name for name in module.state_dict() if name in missing])
        headline = f"the module does not use {len(missing)} of its parameters in a run: they get no value"
        hint = "try  --target-args, with the arguments that build it without them"
        raise MappingError("\n  ".join([headline, *names.shorten(order, MAX_LINES), hint]))
