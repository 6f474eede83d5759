"""Gives each layer of a network its weights while it runs, and takes them back.

So a network needs the memory of one layer, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from converter.formats import torch_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from converter.formats.file_arrays import AnyArray

ATTRIBUTE = "weights_of_runs"  # of a layer that has its weights only while it runs


def attach(
    network: nn.Module,
    state: Mapping[str, AnyArray | torch.Tensor],
    layers: Collection[str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Let layers of a network take their weights from a state dict whenever they run.

    They get them in the precision that the network has then. The tensors in ``network`` become empty.

    Args:
        network: the network.
        state: its state dict; an array of a file is read each time.
        layers: the names of the layers that do so; the others get their weights now. None for all.
        dtype: the precision that the network gets, None for its own.

    Raises:
        RuntimeError: if names or shapes are not those of the network.
    """
    dtypes = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    shapes = {
        name: torch.empty(tuple(value.shape), dtype=dtypes.get(name), device="meta")
        for name, value in state.items()
    }
    network.load_state_dict(shapes, strict=True, assign=True)
    if dtype:
        network.to(dtype)  # before any tensor gets its values, which are then cast once
    for name, layer in network.named_modules():
        weights = _Weights(f"{name}." if name else "", state)
        if not weights.names(layer):
            continue
        if layers is not None and name not in layers:
            weights.give(layer)
        else:
            layer.register_forward_pre_hook(weights.give)
            layer.register_forward_hook(weights.take, always_call=True)
            setattr(layer, ATTRIBUTE, weights)


def tensor(network: nn.Module, name: str) -> torch.Tensor:
    """Return a tensor of a network, also if its layer has it only while it runs."""
    owner, _, own_name = name.rpartition(".")
    layer = network.get_submodule(owner)
    value: torch.Tensor = getattr(layer, own_name)
    weights: _Weights | None = getattr(layer, ATTRIBUTE, None)
    return value if weights is None else weights.read(own_name, value)


def _own_tensors(layer: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from layer.named_parameters(recurse=False)
    yield from layer.named_buffers(recurse=False)


@dataclass(slots=True, eq=False)
class _Weights:
    """The weights of a layer: those in a state dict whose names have a prefix."""

    prefix: str
    state: Mapping[str, AnyArray | torch.Tensor]
    empty: dict[str, torch.Tensor] = field(default_factory=dict)

    def names(self, layer: nn.Module) -> list[str]:
        return [name for name, _ in _own_tensors(layer) if self.prefix + name in self.state]

    def read(self, name: str, empty: torch.Tensor) -> torch.Tensor:
        value = self.state[self.prefix + name]
        return (value if isinstance(value, torch.Tensor) else torch_file.tensor(value)).to(empty.dtype)

    def give(self, layer: nn.Module, _inputs: object = None) -> None:
        self.empty = {name: getattr(layer, name) for name in self.names(layer)}
        for name, empty in self.empty.items():
            value = self.read(name, empty)
            is_parameter = isinstance(empty, nn.Parameter)
            setattr(layer, name, nn.Parameter(value, requires_grad=False) if is_parameter else value)

    def take(self, layer: nn.Module, _inputs: object, _output: object) -> None:
        for name, empty in self.empty.items():
            setattr(layer, name, empty)
