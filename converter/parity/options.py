"""The options of a parity check: the reference, the input sizes and the precisions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.errors import UsageError
from converter.parity.result import LARGEST, LIMITS, SMALLEST
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

# 33×48 after the stem, odd and even: detects pools with other rounding, and swapped axes.
DEFAULT_SIZES = ((65, 95),)
DEFAULT_DTYPES = ("float32", "float64")
REFERENCES = tuple(choice.value for choice in ReferenceChoice)


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """How to compare a network with its reference.

    Attributes:
        reference: "gluon", "numpy", "auto" (GluonCV if it can run, else numpy) or "none".
        sizes: input sizes in pixels, each (height, width) or one number for both; by default (65, 95).
        dtypes: precisions to compare in, "float32" and "float64"; by default both.
        gluon_python: interpreter that has MXNet and GluonCV; by default that of the environment variable
            ``GLUON_PYTHON``, else the current one.

    Raises:
        UsageError: if a value is not valid, or if sizes or precisions are given without a reference.
    """

    reference: str = "auto"
    sizes: Sequence[int | tuple[int, int]] = ()
    dtypes: Sequence[str] = ()
    gluon_python: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.reference not in REFERENCES:
            raise UsageError(f"`reference`: expected {', '.join(REFERENCES)}, found {self.reference!r}")
        if self.reference == ReferenceChoice.none and (self.sizes or self.dtypes):
            raise UsageError("`size` and `proof_dtype` need a reference; `reference` is none")
        for side in itertools.chain.from_iterable(probe.size for probe in self.probes):
            if not SMALLEST <= side <= LARGEST:
                raise UsageError(f"`size`: {side} pixels; {SMALLEST} to {LARGEST} expected")
        if unknown := [dtype for dtype in self.dtypes if dtype not in LIMITS]:
            raise UsageError(f"`proof_dtype`: expected {' or '.join(LIMITS)}, found {unknown[0]!r}")

    @property
    def probes(self) -> tuple[Probe, ...]:
        """A probe for each size in each precision."""
        sizes = [(size, size) if isinstance(size, int) else size for size in self.sizes or DEFAULT_SIZES]
        pairs = itertools.product(dict.fromkeys(self.dtypes or DEFAULT_DTYPES), dict.fromkeys(sizes))
        return tuple(Probe(dtype, size) for dtype, size in pairs)
