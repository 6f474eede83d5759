"""Select values of two outputs that differ, for a scatter plot of one against the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

if TYPE_CHECKING:
    from converter.dtypes import Array

MAX_SAMPLES = 2000  # of an output
WORST = 100  # of these, the values that differ most; the others are drawn at random
SEED = 0
MAX_LAYERS = 32  # sampled per probe: the first that differ, one of which the report shows


class Samples(Struct, frozen=True, kw_only=True):
    """Values of the reference's output and of the module's at the same places.

    Attributes:
        reference: finite values of the reference's output.
        module: those of the module.
        total: the number of places at which both outputs are finite.
    """

    reference: tuple[float, ...]
    module: tuple[float, ...]
    total: int


def select(reference: Array, module: Array) -> Samples | None:
    """Return at most ``MAX_SAMPLES`` values, or None if the shapes differ or no place is finite in both.

    Shape:
        ``reference`` and ``module``: any
    """
    if reference.shape != module.shape:
        return None
    finite = np.isfinite(reference) & np.isfinite(module)
    both = [output[finite].astype(np.float64) for output in (reference, module)]
    total = both[0].size
    if not total:
        return None
    places = _places(np.abs(both[0] - both[1]))
    reference_values, module_values = (tuple(output[places].tolist()) for output in both)
    return Samples(reference=reference_values, module=module_values, total=total)


def _places(differences: Array) -> Array:
    """Return the sorted places of the largest differences and of random others."""
    if differences.size <= MAX_SAMPLES:
        return np.arange(differences.size)
    worst = np.argpartition(differences, -WORST)[-WORST:]
    generator = np.random.Generator(np.random.PCG64(SEED))
    others = generator.integers(differences.size, size=MAX_SAMPLES - WORST)
    chosen = np.zeros(differences.size, np.bool_)
    chosen[worst] = chosen[others] = True
    return np.flatnonzero(chosen)
