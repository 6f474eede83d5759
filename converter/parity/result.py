"""What a proof consists of: probes, a row for every layer of every check, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ParityError

if TYPE_CHECKING:
    from converter.networks.mapping import Layer
    from converter.references.probes import Probe

# Of the standard deviation of the reference's output: for the logits, and for every layer before them, of
# whose up to a million elements the worst counts. Measured in docs/decisions/0003-parity.md.
LIMITS = {"float64": 1e-12, "float32": 1e-5}
LAYER_LIMITS = {"float64": 1e-12, "float32": 1e-4}
SMALLEST, LARGEST = 32, 2048  # sizes of a probe, in pixels; the networks halve five times


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one output, all elements taken together."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class LayerDiff:
    """Between the outputs of one layer. ``relative`` is ``max_abs`` over the reference's standard deviation.

    Where there is no such number both are infinite, and ``remark`` says why. ``settings`` are the
    hyper-parameters that differ: (name, the reference's, the module's).
    """

    layer: Layer
    limit: float
    max_abs: float
    relative: float
    reference: Statistics
    module: Statistics
    settings: tuple[tuple[str, object, object], ...] = ()
    remark: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two outputs are the same within the limit; no NaN is."""
        return self.relative <= self.limit


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found: a row for every layer, in the network's order; the last are the logits.

    ``blind`` are the layers, by Gluon's names, whose outputs tell nothing about their weights. ``failure``
    says why the module did not show every layer, where it did not.
    """

    probe: Probe
    rows: tuple[LayerDiff, ...]
    blind: tuple[str, ...] = ()
    failure: str = ""

    @property
    def limit(self) -> float:
        """The largest relative difference that passes."""
        return LIMITS[self.probe.dtype]

    @property
    def agrees(self) -> bool:
        """Whether every layer agrees."""
        return not self.failure and all(row.agrees for row in self.rows)

    @property
    def first_apart(self) -> LayerDiff | None:
        """The first layer that does not agree."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def worst(self) -> LayerDiff:
        """The layer that differs most."""
        return max(self.rows, key=lambda row: row.relative)


@dataclass(frozen=True, slots=True)
class ParityResult:
    """What agreed with what: the reference, the versions it ran on, and every check.

    ``definition`` says what the reference ran: ``graph``, the one that belongs to the parameters, or
    ``gluoncv``, GluonCV's own definition of the model.
    """

    reference: str
    versions: dict[str, str]
    checks: tuple[ProbeResult, ...]
    definition: str | None = None

    @property
    def blind(self) -> tuple[str, ...]:
        """The layers that some check could not see."""
        return tuple(dict.fromkeys(name for check in self.checks for name in check.blind))

    @property
    def passed(self) -> bool:
        """Whether everything agrees, and could have failed to."""
        return bool(self.checks) and self.decisive is None and not self.blind

    @property
    def decisive(self) -> ProbeResult | None:
        """The check that failed; of several the strictest that shows a layer apart: the culprit."""
        return min((check for check in self.checks if not check.agrees), key=_rank, default=None)


NOT_COMPARED = ParityResult("none", {}, ())


def require_passed(proof: ParityResult, diagnosis: object) -> None:
    """Refuse a proof that failed, or that could not have failed.

    ``diagnosis``, as text, says what may be wrong with the first layer apart.
    Errors: ``ParityError`` with every check and its limit, or with the layers that proved nothing.
    """
    if proof.decisive:
        lines = (
            f"  {check.probe}  {describe(check)}{'' if check.agrees else '  FAILED'}"
            for check in proof.checks
        )
        headline = "the PyTorch module does not agree with the reference"
        raise ParityError("\n".join([headline, *lines, str(diagnosis or "")]).rstrip())
    if proof.blind:
        headline = (
            "the outputs of these layers do not depend on their inputs, so they cannot prove their weights; "
            "is the network untrained?"
        )
        way_out = "--reference none converts without a proof"
        raise ParityError("\n  ".join([headline, *names.collapse(proof.blind), way_out]))


def describe(check: ProbeResult) -> str:
    """Return in a line how far the layers are apart."""
    apart = sum(not row.agrees for row in check.rows)
    if not check.rows:
        return check.failure
    agree = f"{apart} of {len(check.rows)} layers apart" if apart else f"{len(check.rows)} layers agree"
    worst = check.worst
    text = f"{agree}, at most {worst.relative:.2g} of the deviation (limit {worst.limit:.0e})"
    return f"{text}; {check.failure}" if check.failure else text


def _rank(check: ProbeResult) -> tuple[bool, float]:
    return check.first_apart is None, check.limit
