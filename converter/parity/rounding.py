"""What it costs to keep the weights in a narrower type: how far the logits move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.parity import comparison, execution
from converter.references.probes import Probe

if TYPE_CHECKING:
    from converter.choices import Precision
    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model

PROBE = Probe("float64", (65, 95))  # in float64, so that nothing but the weights differs


@dataclass(frozen=True, slots=True)
class RoundingReport:
    """Of the logits for one probe.

    ``relative`` is ``max_abs`` over the standard deviation of the logits that the unrounded weights give.
    """

    precision: Precision
    probe: Probe
    max_abs: float
    relative: float


def measure(model: Model, state: Arrays, narrow: Arrays, precision: Precision) -> RoundingReport:
    """Send one probe through our module with the weights as they were, and as they are rounded."""
    before, after = (
        execution.logits(execution.build(arrays, model.config), PROBE) for arrays in (state, narrow)
    )
    found = comparison.layer_diff(model.mapping.layers[-1], 0.0, before, after)
    return RoundingReport(precision, PROBE, found.max_abs, found.relative)
