"""Runs a generated module end to end, and keeps the outputs of its layers in files."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError
from converter.parity import generated_network
from converter.parity.generated_network import REFUSALS
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch

    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule
    from converter.parity.graph_proof import ConvertedGraph


@dataclass(frozen=True, slots=True)
class ModuleOutputs:
    """What the module computed end to end.

    Attributes:
        layers: the file of the first output of each layer.
        heads: the outputs.
    """

    layers: Mapping[str, Path]
    heads: list[Array]


@contextlib.contextmanager
def run(
    module: GeneratedModule, net: torch.nn.Module, inputs: Mapping[str, Array]
) -> Iterator[ModuleOutputs]:
    """Run a network, and yield its outputs and those of its layers, which are in temporary files.

    Raises:
        ParityError: if the module does not take the inputs, or if its outputs are not finite.
        StorageError: if the files cannot be written.
    """
    import torch  # noqa: PLC0415 - as above

    with disk.temp_dir() as folder:
        layers = {
            layer: folder / f"{place}.npy"
            for place, layer in enumerate(dict.fromkeys(module.layers.values()))
        }

        def keep(path: Path, _module: object, _inputs: object, output: torch.Tensor) -> None:
            if not path.exists():  # the first use of a layer that is used several times
                with disk.writing(path):
                    np.save(path, output.numpy())

        hooks = [
            net.get_submodule(layer).register_forward_hook(functools.partial(keep, path))
            for layer, path in layers.items()
        ]
        try:
            with torch.no_grad():
                result = net(*(torch.from_numpy(np.asarray(inputs[name])) for name in module.inputs))
        except REFUSALS as error:
            raise _shape_error(module, inputs, error) from error
        for hook in hooks:
            hook.remove()
        heads = [each.detach().numpy() for each in (result if isinstance(result, tuple) else (result,))]
        if not all(np.isfinite(head).all() for head in heads):
            raise ParityError("the outputs are not finite, which proves nothing")
        yield ModuleOutputs(layers, heads)


def require_accepted(converted: ConvertedGraph, inputs: Mapping[str, Array]) -> None:
    """Check that a graph can be computed for inputs of these shapes.

    Raises:
        ParityError: if its module does not take them.
    """
    import torch  # noqa: PLC0415 - as above

    module = converted.module
    net = generated_network.load(module, converted.parameters, "float32")
    try:
        with torch.no_grad():
            net(*(torch.zeros(inputs[name].shape) for name in module.inputs))
    except REFUSALS as error:
        raise _shape_error(module, inputs, error) from error


def _shape_error(module: GeneratedModule, inputs: Mapping[str, Array], error: Exception) -> ParityError:
    shapes = " and ".join(str(inputs[name].shape) for name in module.inputs)
    return ParityError(
        f"the generated module does not take an input of shape {shapes}\n"
        f"  found       {str(error).partition(chr(10))[0]}\n"
        "  try         another --size, or --reference none, which writes the files without a proof"
    )
