"""Runs generated modules in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule


def load_source(source: str) -> dict[str, Any]:
    """Return the names of a generated module."""
    names: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "generated.py", "exec"), names)  # noqa: S102 - what is tested
    return names


def random_parameters(
    shapes: Mapping[str, tuple[int, ...]], gamma: tuple[float, float] = (0.6, 1.0)
) -> dict[str, Array]:
    """Return parameters in float64 that preserve a signal's scale, as ``networks.synthetic`` does."""
    generator = np.random.Generator(np.random.PCG64(0))
    ranges = {"gamma": gamma, "var": (0.8, 1.2)}
    parameters: dict[str, Array] = {}
    for name, shape in shapes.items():
        bound = np.sqrt(3 / max(1, int(np.prod(shape[1:])))) if len(shape) > 1 else 0.1
        low, high = next((each for role, each in ranges.items() if name.endswith(role)), (-bound, bound))
        parameters[name] = generator.uniform(low, high, shape)
    return parameters


def network(module: GeneratedModule, parameters: Mapping[str, Array]) -> torch.nn.Module:
    """Return the network of a generated module in float64, in evaluation mode, with these parameters."""
    net: torch.nn.Module = load_source(module.source)["Network"]()
    net.double().load_state_dict(state_dict(module, parameters))
    return net.eval()


def state_dict(module: GeneratedModule, parameters: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Return the state dict of a generated module."""
    return {
        name: torch.from_numpy(
            np.ones_like(parameters[variable]) if variable in module.ones else parameters[variable]
        )
        for variable, name in module.tensors.items()
    }


def outputs(net: torch.nn.Module, *inputs: Array) -> list[Array]:
    """Return the outputs of a network."""
    with torch.no_grad():
        result = net(*(torch.from_numpy(np.asarray(array)) for array in inputs))
    return [each.numpy() for each in (result if isinstance(result, tuple) else (result,))]
