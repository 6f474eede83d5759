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
    from collections.abc import Iterator

    from converter.formats.file_arrays import Arrays


def attach(module: nn.Module, arrays: Arrays) -> None:
    """Let the layers of a network on the meta device take their weights from arrays.

    Each run of a layer reads them, in the precision that the network has then.

    Args:
        module: the network.
        arrays: its state dict.

    Raises:
        RuntimeError: if names or shapes are not those of the network.
    """
    shapes = {name: torch.empty(array.shape, device="meta") for name, array in arrays.items()}
    module.load_state_dict(shapes, strict=True)
    for name, layer in module.named_modules():
        if [*_own_tensors(layer)]:
            weights = _Weights(f"{name}." if name else "", arrays)
            layer.register_forward_pre_hook(weights.give)
            layer.register_forward_hook(weights.take, always_call=True)


def _own_tensors(layer: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from layer.named_parameters(recurse=False)
    yield from layer.named_buffers(recurse=False)


@dataclass(slots=True)
class _Weights:
    """The weights of a layer: the arrays whose names have a prefix."""

    prefix: str
    arrays: Arrays
    empty: dict[str, torch.Tensor] = field(default_factory=dict)

    def give(self, layer: nn.Module, _inputs: object) -> None:
        self.empty = dict(_own_tensors(layer))
        for name, empty in self.empty.items():
            tensor = torch_file.tensor(self.arrays[self.prefix + name]).to(empty.dtype)
            is_parameter = isinstance(empty, nn.Parameter)
            setattr(layer, name, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)

    def take(self, layer: nn.Module, _inputs: object, _output: object) -> None:
        for name, empty in self.empty.items():
            setattr(layer, name, empty)
