"""Measure how far the logits move if the weights are stored in a narrower type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.formats import torch_package
from converter.parity import comparison, execution
from converter.references.probes import Probe

if TYPE_CHECKING:
    from converter.choices import Precision
    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model

PROBE = Probe("float64", (65, 95))  # float64, so that only the weights differ


@dataclass(frozen=True, slots=True)
class RoundingReport:
    """Difference of the logits before and after rounding the weights, for one probe.

    Attributes:
        precision: type that the weights are rounded to.
        probe: the input.
        max_abs: largest absolute difference of the logits.
        relative: ``max_abs`` over the standard deviation of the logits of the unrounded weights.
    """

    precision: Precision
    probe: Probe
    max_abs: float
    relative: float


def measure(model: Model, state: Arrays, rounded: Arrays, precision: Precision) -> RoundingReport:
    """Run one probe with the original and with the rounded weights and compare the logits.

    Raises:
        TorchUnavailableError: if torch is not installed.
    """
    torch_package.require_torch("a rounding --dtype")
    probe = replace(PROBE, channels=model.config.in_chans)
    before, after = (
        execution.logits(execution.stream(arrays, model.config), probe) for arrays in (state, rounded)
    )
    diff = comparison.layer_diff(model.mapping.layers[-1], 0.0, before, after)
    return RoundingReport(precision, probe, diff.max_abs, diff.relative)
