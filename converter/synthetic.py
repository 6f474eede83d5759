"""Seeded random parameters in Gluon's terms, for trying everything out without a download.

They depend on the seed alone, bit for bit: uniform numbers from PCG64, whose stream numpy promises to keep,
scaled in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from converter.mapping import Mapping
    from converter.matching import Array, Shape

# What keeps a signal at its size through a network at inference: convolutions and dense layers at variance
# 1 / fan-in, BatchNorm arrays in these ranges. None is degenerate, so every layer reaches the logits.
BATCHNORM_RANGES = {
    "gamma": (0.6, 1.0),
    "beta": (-0.1, 0.1),
    "running_mean": (-0.1, 0.1),
    "running_var": (0.8, 1.2),
}
BIAS_RANGE = (-0.1, 0.1)


def random_params(mapping: Mapping, shapes: dict[str, Shape], seed: int) -> dict[str, Array]:
    """Return float32 arrays by Gluon's names. ``shapes`` are by PyTorch's, and are Gluon's too."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return {
        tensor.source: _uniform(generator, shape, _bounds(tensor.source_role, shape))
        for tensor in mapping.tensors
        for shape in [shapes[tensor.target]]
    }


def _bounds(role: str, shape: Shape) -> tuple[float, float]:
    if role == "weight":
        bound = math.sqrt(3 / math.prod(shape[1:]))
        return -bound, bound
    return BATCHNORM_RANGES.get(role, BIAS_RANGE)


def _uniform(generator: np.random.Generator, shape: Shape, bounds: tuple[float, float]) -> Array:
    low, high = (np.float32(bound) for bound in bounds)
    array = generator.random(shape, np.float32)
    array *= high - low
    array += low
    return array
