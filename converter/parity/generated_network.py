"""Builds the network of a generated module, from parameters, a state dict or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import MappingError, SymbolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.codegen import GeneratedModule

# What PyTorch raises for arguments and inputs that do not fit, or that need more memory than there is.
REFUSALS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def namespace(source: str) -> dict[str, Any]:
    """Return the names of a generated module."""
    scope: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "generated module", "exec"), scope)  # noqa: S102 - our own code: see decision 18
    return scope


def load(module: GeneratedModule, parameters: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of a generated module with parameters: see ``stream``."""
    return stream(module, dict(state_arrays(module, parameters)), dtype)


def stream(module: GeneratedModule, state: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of a generated module, each of whose layers reads its arrays when it runs.

    It is in evaluation mode and in the precision ``dtype``.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
        MappingError: if the arrays have other names or shapes than the layers.
    """
    return _attach(_empty(module.source), module, state, dtype)


def _attach(
    net: torch.nn.Module, module: GeneratedModule, state: Mapping[str, AnyArray | torch.Tensor], dtype: str
) -> torch.nn.Module:
    """Let the layers of a network take their weights from a state dict when they run, in a precision."""
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.parity import layer_weights  # noqa: PLC0415 - imports torch

    try:
        layer_weights.attach(net, state, {*module.layers.values()}, getattr(torch, dtype))
    except RuntimeError as error:
        raise MappingError(f"the parameters do not fit the graph: {error}") from error
    return net.eval()


def build(source: str, state: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of the source of a generated module with a state dict, in evaluation mode.

    Its layers get no memory of their own, whatever their sizes, but the given arrays.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
        MappingError: if the arrays have other shapes than the layers.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    net = _empty(source)
    kind = getattr(torch, dtype)
    arrays = ((name, np.asarray(array)) for name, array in state.items())
    try:
        net.load_state_dict({name: torch.from_numpy(array).to(kind) for name, array in arrays}, assign=True)
    except RuntimeError as error:
        raise MappingError(f"the parameters do not fit the graph: {error}") from error
    return net.to(kind).eval()


def read(module: GeneratedModule, path: Path, dtype: str) -> torch.nn.Module:
    """Return the network that the ``load`` of a generated module reads from a file.

    Its layers take their weights in the precision when they run.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
        MappingError: if the tensors in the file have other names or shapes than the layers.
    """
    from converter.parity.empty_layers import EmptyLayers  # noqa: PLC0415 - imports torch

    _empty(module.source)  # refuses the attributes of a layer before those of the file
    try:
        with EmptyLayers():
            net: torch.nn.Module = namespace(module.source)["load"](str(path))
    except (RuntimeError, ValueError) as error:
        raise MappingError(f"the parameters do not fit the graph: {error}") from error
    is_training, tensors = net.training, net.state_dict()
    state = {name: tensors[name] for name in module.tensors.values()}
    return _attach(net, module, state, dtype).train(is_training)


def _empty(source: str) -> torch.nn.Module:
    """Return the network of a generated module, whose layers have no memory yet.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
    """
    from converter.parity.empty_layers import EmptyLayers  # noqa: PLC0415 - imports torch

    try:
        with EmptyLayers():
            net: torch.nn.Module = namespace(source)["Network"]()
    except REFUSALS as error:
        raise SymbolError(f"PyTorch refuses the attributes of a layer: {error}") from error
    return net


def state_arrays(module: GeneratedModule, parameters: Arrays) -> Iterator[tuple[str, AnyArray]]:
    """Yield the state dict of a generated module; gammas that MXNet fixes are ones."""
    for variable, name in module.tensors.items():
        array = parameters[variable]
        yield name, np.ones(array.shape, array.dtype) if variable in module.ones else array
