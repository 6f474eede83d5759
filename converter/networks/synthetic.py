"""Generate seeded random parameters by Gluon's names, to run everything without a download.

They depend on the seed alone, bit for bit: uniform PCG64 numbers, scaled in float32. NumPy guarantees
the stream of PCG64; a test pins the resulting parameters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections import abc

    from converter.dtypes import Array
    from converter.networks.mapping import Mapping, Tensor
    from resnext_torch.config import Shape

# These preserve a signal's scale through a network at inference, so that every layer affects the logits
# and these have a standard deviation of 1 to 2: weights have the variance gain² / fan-in, other arrays
# a range.
WEIGHT_GAINS = {"conv": 1.0, "gate": 1.0, "dense": 4.0}
RANGES = {
    "gamma": (0.6, 1.0),
    "beta": (-0.1, 0.1),
    "running_mean": (-0.1, 0.1),
    "running_var": (0.8, 1.2),
    "bias": (-0.1, 0.1),
}


def random_params(mapping: Mapping, shapes: dict[str, Shape], seed: int) -> dict[str, Array]:
    """Return float32 arrays by Gluon's structural names.

    Args:
        mapping: the model's mapping.
        shapes: the shapes by PyTorch's names; they are the same in Gluon.
        seed: the seed.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {}
    for tensor in mapping.tensors:
        shape = shapes[tensor.target]
        arrays[tensor.source] = _uniform(generator, shape, _range(tensor, shape))
    return arrays


def random_arrays(
    roles: abc.Mapping[str, tuple[str, Shape]], head: str | None, seed: int
) -> dict[str, Array]:
    """Return float32 arrays by name.

    Args:
        roles: the role and the shape of each array, by name.
        head: the name of the weight of the head, None without one.
        seed: the seed.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {}
    for name, (role, shape) in roles.items():
        limits = RANGES.get(role) or _bounds(WEIGHT_GAINS["dense" if name == head else "conv"], shape)
        arrays[name] = _uniform(generator, shape, limits)
    return arrays


def _range(tensor: Tensor, shape: Shape) -> tuple[float, float]:
    if tensor.source_role != "weight":
        return RANGES[tensor.source_role]
    return _bounds(WEIGHT_GAINS[tensor.layer.kind], shape)


def _bounds(gain: float, shape: Shape) -> tuple[float, float]:
    bound = gain * math.sqrt(3 / math.prod(shape[1:]))
    return -bound, bound


def _uniform(generator: np.random.Generator, shape: Shape, limits: tuple[float, float]) -> Array:
    low, high = (np.float32(limit) for limit in limits)
    array = generator.random(shape, np.float32)
    array *= high - low
    array += low
    return array
