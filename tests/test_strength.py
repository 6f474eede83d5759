"""Which proof may replace which: the rule shared by manifests and convert-zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converter.manifests.schema import CheckRecord, ParityRecord, WorstLayerRecord
from converter.manifests.strength import Claim, claims, strongest, without_sizes

if TYPE_CHECKING:
    from converter.parity.result import Definition
    from converter.references import ReferenceName


WORST = WorstLayerRecord(layer="output", relative=0.0, limit=1e-12)


def parity(
    reference: ReferenceName, definition: Definition | None, *checks: tuple[str, str], proven: bool = True
) -> ParityRecord:
    return ParityRecord(
        proven=proven,
        reference=reference,
        versions={},
        definition=definition,
        checks=tuple(
            CheckRecord(
                dtype=dtype, size=size, seed=0, limit=1e-12, layers=1, max_abs=0.0, relative=0.0, worst=WORST
            )
            for dtype, size in checks
        ),
    )


BOTH = (("float64", "65x95"), ("float32", "65x95"))
WEAKER = [  # a proof, and one that is not stronger
    (parity("gluon", "gluoncv", *BOTH), parity("numpy", "gluoncv", *BOTH)),
    (parity("gluon", "graph", *BOTH), parity("gluon", "gluoncv", *BOTH)),
    (parity("gluon", "graph", *BOTH), parity("numpy", "graph", *BOTH)),
    (parity("gluon", None, *BOTH), parity("gluon", "gluoncv", *BOTH)),
    (parity("numpy", "gluoncv", *BOTH), parity("numpy", "gluoncv", BOTH[0])),
    (parity("numpy", "gluoncv", *BOTH), parity("numpy", "gluoncv", *BOTH, proven=False)),
]
STRONGER = [
    (parity("numpy", "gluoncv", *BOTH), parity("gluon", "gluoncv", *BOTH)),
    (parity("gluon", "gluoncv", *BOTH), parity("gluon", "graph", *BOTH)),
    (parity("gluon", "gluoncv", BOTH[1]), parity("numpy", "gluoncv", *BOTH)),
    (parity("gluon", "gluoncv", *BOTH, proven=False), parity("numpy", "gluoncv", BOTH[1])),
    (parity("gluon", "gluoncv", *BOTH), parity("gluon", "gluoncv", ("float64", "224x224"))),
]


@pytest.mark.parametrize(("strong", "weak"), WEAKER)
def test_stronger_proof_claims_all_of_a_weaker_one(strong: ParityRecord, weak: ParityRecord) -> None:
    assert claims(weak) <= claims(strong)


@pytest.mark.parametrize(("weak", "strong"), STRONGER)
def test_weaker_proof_does_not_claim_all_of_a_stronger_one(weak: ParityRecord, strong: ParityRecord) -> None:
    assert not claims(strong) <= claims(weak)


def test_strongest_omits_implied_claims() -> None:
    result = strongest(without_sizes(claims(parity("gluon", "graph", *BOTH))))
    assert result == {Claim(dtype, "gluon", "graph") for dtype in ("float64", "float32")}
    by_numpy = without_sizes(claims(parity("numpy", "graph", BOTH[0])))
    definition = without_sizes(claims(parity("gluon", "gluoncv", BOTH[0])))
    assert strongest(by_numpy | definition) == {
        Claim("float64", "numpy", "graph"),
        Claim("float64", "gluon", "gluoncv"),
    }
    assert str(Claim("float64", "numpy", "graph")) == "float64 against numpy of the graph"
    assert str(Claim("float64", "gluon", "gluoncv")) == "float64 against gluon"


def test_proofs_at_different_sizes_are_equal_without_sizes() -> None:
    one, other = (parity("gluon", "gluoncv", ("float64", size)) for size in ("65x95", "224x224"))
    assert without_sizes(claims(one)) == without_sizes(claims(other))
    assert without_sizes(claims(one))


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (Claim("float64", "gluon", "gluoncv"), "float64 against gluon"),
        (Claim("float32", "numpy", "graph"), "float32 against numpy of the graph"),
    ],
)
def test_claim_is_formatted_for_messages(claim: Claim, text: str) -> None:
    assert str(claim) == text
