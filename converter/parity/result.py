"""The result of a comparison: one row per layer for each probe, the limits and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from converter import names
from converter.errors import ParityError

if TYPE_CHECKING:
    from converter.networks.mapping import Layer
    from converter.parity.samples import Samples
    from converter.references import ReferenceName
    from converter.references.probes import Probe

# Largest difference that passes, in standard deviations of the reference's output: LIMITS for the
# logits, LAYER_LIMITS for the layers before them, of which the worst of up to a million elements counts.
# Measured in docs/decisions/0003-parity.md.
LIMITS = {"float64": 1e-12, "float32": 1e-5}
LAYER_LIMITS = {"float64": 1e-12, "float32": 1e-4}
# What the reference ran: a given graph, or GluonCV's definition of a model.
Definition = Literal["graph", "gluoncv"]
GRAPH: Definition = "graph"
GLUONCV: Definition = "gluoncv"
SMALLEST, LARGEST = 32, 2048  # sides of a probe, in pixels; the networks halve them five times


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation over all elements of one output."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class LayerDiff:
    """Difference between the outputs of one layer.

    Attributes:
        layer: the layer.
        limit: largest ``relative`` that passes.
        max_abs: largest absolute difference; infinite if the outputs cannot be compared.
        relative: ``max_abs`` over the standard deviation of the reference's output; infinite likewise.
        reference: statistics of the reference's output.
        module: statistics of the module's output.
        settings: hyperparameters that differ: (name, value in the reference, value in the module).
        remark: why the outputs cannot be compared, or an empty string.
        samples: values of both outputs, if they do not agree; None after the first such layers.
    """

    layer: Layer
    limit: float
    max_abs: float
    relative: float
    reference: Statistics
    module: Statistics
    settings: tuple[tuple[str, object, object], ...] = ()
    remark: str = ""
    samples: Samples | None = None

    @property
    def agrees(self) -> bool:
        """Whether the outputs agree within the limit; False for NaN."""
        return self.relative <= self.limit


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of one probe.

    Attributes:
        probe: the input.
        rows: one per layer, in the network's order; the last is for the logits.
        vacuous_layers: layers, by Gluon names, whose outputs do not depend on their weights.
        failure: why the module did not compute every layer or return its logits, or an empty string.
    """

    probe: Probe
    rows: tuple[LayerDiff, ...]
    vacuous_layers: tuple[str, ...] = ()
    failure: str = ""

    @property
    def limit(self) -> float:
        """Largest relative difference of the logits that passes."""
        return LIMITS[self.probe.dtype]

    @property
    def agrees(self) -> bool:
        """Whether the module ran and every layer agrees."""
        return not self.failure and all(row.agrees for row in self.rows)

    @property
    def first_mismatch(self) -> LayerDiff | None:
        """The first layer that does not agree, None if all do."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def worst(self) -> LayerDiff:
        """The layer with the largest relative difference."""
        return max(self.rows, key=lambda row: row.relative)


@dataclass(frozen=True, slots=True)
class ParityResult:
    """Result of a comparison.

    Attributes:
        reference: name of the reference: "gluon", "numpy" or "none".
        versions: versions of the packages that computed the outputs.
        checks: one result per probe.
        definition: what the reference ran: "graph", the graph that belongs to the parameters, or
            "gluoncv", GluonCV's definition of the model.
    """

    reference: ReferenceName
    versions: dict[str, str]
    checks: tuple[ProbeResult, ...]
    definition: Definition | None = None

    @property
    def vacuous_layers(self) -> tuple[str, ...]:
        """Layers whose outputs do not depend on their weights in some check."""
        return tuple(dict.fromkeys(name for check in self.checks for name in check.vacuous_layers))

    @property
    def passed(self) -> bool:
        """Whether every check agrees and none is vacuous."""
        return bool(self.checks) and self.decisive is None and not self.vacuous_layers

    @property
    def decisive(self) -> ProbeResult | None:
        """The strictest failed check, if possible one with a mismatching layer; None if all agree."""
        return min((check for check in self.checks if not check.agrees), key=_rank, default=None)


NOT_COMPARED = ParityResult("none", {}, ())


def require_passed(proof: ParityResult, diagnosis: object) -> None:
    """Refuse a comparison that failed or is vacuous.

    Args:
        proof: the comparison.
        diagnosis: likely causes of the first mismatch; its text ends the error message.

    Raises:
        ParityError: if a check failed, or if a layer's output does not depend on its weights.
    """
    if proof.decisive:
        lines = (
            f"  {check.probe}  {describe(check)}{'' if check.agrees else '  FAILED'}"
            for check in proof.checks
        )
        headline = "the PyTorch module does not agree with the reference"
        raise ParityError("\n".join([headline, *lines, str(diagnosis or "")]).rstrip())
    if proof.vacuous_layers:
        headline = (
            "these layers prove nothing, because their outputs do not depend on their weights; "
            "is the network untrained?"
        )
        hint = "to convert without a proof: --reference none"
        raise ParityError("\n  ".join([headline, *names.collapse(proof.vacuous_layers), hint]))


def describe(check: ProbeResult) -> str:
    """Summarize in one line how many layers agree and how large the difference is."""
    mismatches = sum(not row.agrees for row in check.rows)
    if not check.rows:
        return check.failure
    verdict = (
        f"{mismatches} of {len(check.rows)} layers differ"
        if mismatches
        else f"{len(check.rows)} layers agree"
    )
    worst = check.worst
    text = f"{verdict}, largest difference / deviation {worst.relative:.2g} (limit {worst.limit:.0e})"
    return f"{text}; {check.failure}" if check.failure else text


def _rank(check: ProbeResult) -> tuple[bool, float]:
    return check.first_mismatch is None, check.limit
