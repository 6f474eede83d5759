"""Which proof is at least as strong as another.

MXNet and the numpy reference agree on every supported model (docs/decisions/0003-parity.md), so a proof by
MXNet is one by numpy too. A graph is matched with GluonCV's definition before it is run, so a proof of the
graph is one of the definition too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NUMPY = "numpy"
GRAPH, GLUONCV = "graph", "gluoncv"  # what a proof is of: a given graph, or GluonCV's definition of a model


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """Agreement with a reference in one precision. ``size`` is the input's, "" for any."""

    dtype: str
    reference: str
    definition: str
    size: str = ""

    def __str__(self) -> str:
        of = " of the graph" if self.definition == GRAPH else ""
        return f"{self.dtype} against {self.reference}{of}"


def claims(parity: dict[str, Any]) -> set[Claim]:
    """Return all that the ``parity`` of a manifest claims, weaker claims included; none if it is unproven."""
    if not parity.get("proven"):
        return set()
    references = {parity["reference"], NUMPY}
    definitions = {parity.get("definition") or GLUONCV, GLUONCV}
    return {
        Claim(check["dtype"], reference, definition, size)
        for check in parity["checks"]
        for reference in references
        for definition in definitions
        for size in (check["size"], "")
    }


def strongest(found: set[Claim]) -> set[Claim]:
    """Return the claims that no other one implies."""
    return {claim for claim in found if not any(other != claim and _implies(other, claim) for other in found)}


def _implies(claim: Claim, other: Claim) -> bool:
    return (
        claim.dtype == other.dtype
        and claim.size == other.size
        and other.reference in {claim.reference, NUMPY}
        and other.definition in {claim.definition, GLUONCV}
    )


def without_sizes(found: set[Claim]) -> set[Claim]:
    """Return the claims that hold for any size: a proof on another input is no weaker."""
    return {claim for claim in found if not claim.size}
