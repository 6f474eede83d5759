"""Compare the strength of proofs.

MXNet and the numpy reference agree on every supported model (docs/decisions/0003-parity.md), so a proof
against MXNet implies one against numpy. A graph is matched with GluonCV's definition before it runs, so
a proof of the graph implies one of the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.parity.result import GLUONCV, GRAPH

if TYPE_CHECKING:
    from converter.manifests.schema import ParityRecord

NUMPY = "numpy"


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """Agreement with a reference in one precision.

    Attributes:
        dtype: precision of the run.
        reference: name of the reference.
        definition: "graph" or "gluoncv".
        size: size of the input, "" for any.
    """

    dtype: str
    reference: str
    definition: str
    size: str = ""

    def __str__(self) -> str:
        suffix = " of the graph" if self.definition == GRAPH else ""
        return f"{self.dtype} against {self.reference}{suffix}"


def claims(parity: ParityRecord) -> set[Claim]:
    """Return all claims of a manifest's ``parity``, including weaker ones; empty if it is unproven."""
    if not parity.proven:
        return set()
    return {
        Claim(check.dtype, reference, definition, size)
        for check in parity.checks
        for reference in (parity.reference, NUMPY)
        for definition in (parity.definition or GLUONCV, GLUONCV)
        for size in (check.shape, "")
    }


def strongest(candidates: set[Claim]) -> set[Claim]:
    """Return the claims that no other claim implies."""
    return {
        claim
        for claim in candidates
        if not any(other != claim and _implies(other, claim) for other in candidates)
    }


def _implies(claim: Claim, other: Claim) -> bool:
    return (
        claim.dtype == other.dtype
        and claim.size == other.size
        and other.reference in {claim.reference, NUMPY}
        and other.definition in {claim.definition, GLUONCV}
    )


def without_sizes(candidates: set[Claim]) -> set[Claim]:
    """Return the claims that hold for any size: a proof for another input is not weaker."""
    return {claim for claim in candidates if not claim.size}
