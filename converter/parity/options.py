"""The options of a parity check: the reference, the input sizes and the precisions."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.errors import UsageError
from converter.parity.result import LARGEST, LIMITS, SMALLEST
from converter.references.probes import Probe

if TYPE_CHECKING:
    from os import PathLike

# 33×48 after the stem, odd and even: detects pools with other rounding, and swapped axes.
DEFAULT_SIZES = ((65, 95),)
DEFAULT_DTYPES = ("float32", "float64")
CHOICES = tuple(choice.value for choice in ReferenceChoice)


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """How to compare a network with its reference.

    Attributes:
        reference: "gluon", "numpy", "auto" (GluonCV if it can run, else numpy) or "none".
        sizes: input sizes in pixels, each (height, width) or one number for both; by default [(65, 95)].
        dtypes: precisions to compare in, "float32" and "float64"; by default both.
        gluon_python: interpreter that has MXNet and GluonCV; by default that of the environment variable
            ``GLUON_PYTHON``, else the current one.

    Raises:
        UsageError: if a value is not valid, or if sizes or precisions are given without a reference.
    """

    reference: str = "auto"
    _: KW_ONLY
    sizes: Sequence[int | tuple[int, int]] = ()
    dtypes: Sequence[str] = ()
    gluon_python: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check the values, and store sizes and precisions as tuples."""
        if self.reference not in CHOICES:
            message = f"`reference`: expected {', '.join(CHOICES)}, found {self.reference!r}"
            raise UsageError(message, "reference")
        if isinstance(self.sizes, str | bytes) or not isinstance(self.sizes, Sequence):
            raise UsageError(f"`sizes`: expected a list of sizes, found {self.sizes!r}", "sizes")
        if not isinstance(self.dtypes, Sequence):
            raise UsageError(f"`dtypes`: expected a list of names, found {self.dtypes!r}", "dtypes")
        dtypes = (self.dtypes,) if isinstance(self.dtypes, str) else tuple(self.dtypes)
        if unknown := [dtype for dtype in dtypes if dtype not in LIMITS]:
            message = f"`dtypes`: expected {' or '.join(LIMITS)}, found {unknown[0]!r}"
            raise UsageError(message, "dtypes")
        object.__setattr__(self, "sizes", tuple(dict.fromkeys(map(_pair, self.sizes))))
        object.__setattr__(self, "dtypes", tuple(dict.fromkeys(dtypes)))
        if self.reference == ReferenceChoice.none and (self.sizes or self.dtypes):
            message = "`sizes` and `dtypes` require a reference; `reference` is none"
            raise UsageError(message, "sizes", "dtypes", "reference")

    @property
    def probes(self) -> tuple[Probe, ...]:
        """A probe for each size in each precision."""
        pairs = itertools.product(self.dtypes or DEFAULT_DTYPES, self.sizes or DEFAULT_SIZES)
        return tuple(Probe(dtype, _pair(size)) for dtype, size in pairs)


def _pair(size: object) -> tuple[int, int]:
    """Return a size as (height, width).

    Raises:
        UsageError: if it is not a size, or is too small or too large.
    """
    sides = size if isinstance(size, list | tuple) else (size, size)
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError) as error:
        message = f"`sizes`: expected (height, width) or a number of pixels, found {size!r}"
        raise UsageError(message, "sizes") from error
    for side in (height, width):
        if not SMALLEST <= side <= LARGEST:
            message = f"`sizes`: expected {SMALLEST} to {LARGEST} pixels, found {side}"
            raise UsageError(message, "sizes")
    return height, width
