"""Seeded random parameters in Gluon's terms, for trying everything out without a download.

They depend on the seed alone, bit for bit: uniform numbers drawn from PCG64 and scaled in float32. numpy
promises to keep that stream, and a test holds what is made of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.networks.mapping import Mapping, Tensor
    from resnext_torch.config import Shape

# What keeps a signal at its size through a network at inference, so that every layer reaches the logits and
# these have a standard deviation of 1 to 2: weights of variance gain² / fan-in, the other arrays in ranges.
WEIGHT_GAINS = {"conv": 1.0, "gate": 1.0, "dense": 4.0}
RANGES = {
    "gamma": (0.6, 1.0),
    "beta": (-0.1, 0.1),
    "running_mean": (-0.1, 0.1),
    "running_var": (0.8, 1.2),
    "bias": (-0.1, 0.1),
}


def random_params(mapping: Mapping, shapes: dict[str, Shape], seed: int) -> dict[str, Array]:
    """Return float32 arrays by Gluon's names. ``shapes`` are by PyTorch's, and are Gluon's too."""
    generator = np.random.Generator(np.random.PCG64(seed))
    arrays = {}
    for tensor in mapping.tensors:
        shape = shapes[tensor.target]
        arrays[tensor.source] = _uniform(generator, shape, _range(tensor, shape))
    return arrays


def _range(tensor: Tensor, shape: Shape) -> tuple[float, float]:
    if tensor.source_role != "weight":
        return RANGES[tensor.source_role]
    bound = WEIGHT_GAINS[tensor.layer.kind] * math.sqrt(3 / math.prod(shape[1:]))
    return -bound, bound


def _uniform(generator: np.random.Generator, shape: Shape, limits: tuple[float, float]) -> Array:
    low, high = (np.float32(limit) for limit in limits)
    array = generator.random(shape, np.float32)
    array *= high - low
    array += low
    return array
