"""What a manifest says of a proof, and which manifests a weaker one may not replace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from converter.errors import ArtifactError
from converter.manifests import builder
from converter.networks.mapping import Layer
from converter.parity.result import NOT_COMPARED, LayerDiff, ParityResult, ProbeResult, Statistics
from converter.references.probes import Probe

if TYPE_CHECKING:
    from pathlib import Path

PROBE = Probe("float32", (65, 97), seed=3)
ANY = Statistics(0.0, 1.0)


def row(name: str, kind: str, limit: float, max_abs: float, relative: float) -> LayerDiff:
    return LayerDiff(Layer(name, name, kind, "stem"), limit, max_abs, relative, ANY, ANY)


# Of a layer 1e-4 of the deviation passes, of the logits 1e-5.
ROWS = (
    row("features.0", "conv", 1e-4, max_abs=0.5, relative=5e-5),
    row("features.1", "batchnorm", 1e-4, max_abs=0.25, relative=2e-6),
    row("output", "dense", 1e-5, max_abs=0.125, relative=3e-6),
)


def proof(*rows: LayerDiff) -> ParityResult:
    return ParityResult("numpy", {"numpy": "1.26"}, (ProbeResult(PROBE, rows),), "gluoncv")


def test_logits_row_is_written_to_the_manifest() -> None:
    assert builder.parity(proof(*ROWS)) == {
        "proven": True,
        "reference": "numpy",
        "definition": "gluoncv",
        "versions": {"numpy": "1.26"},
        "checks": [
            {
                "dtype": "float32",
                "size": "65x97",
                "seed": 3,
                "max_abs": 0.125,
                "relative": 3e-6,
                "limit": 1e-5,
                "layers": 3,
                "worst": {"layer": "features.0", "relative": 5e-5, "limit": 1e-4},
            }
        ],
    }


@pytest.mark.parametrize(("last", "max_abs", "relative"), [(0, 0.5, 5e-5), (1, 0.25, 2e-6), (2, 0.125, 3e-6)])
def test_logits_row_is_the_last_row(last: int, max_abs: float, relative: float) -> None:
    rows = [*ROWS[:last], *ROWS[last + 1 :], ROWS[last]]
    (check,) = builder.parity(proof(*rows))["checks"]
    assert (check["max_abs"], check["relative"]) == (max_abs, relative)
    assert check["worst"]["layer"] == "features.0"


def document(found: ParityResult, **more: object) -> dict[str, Any]:
    return {"parity": builder.parity(found), "labels": None, "artifact": {}, **more}


def test_manifest_with_a_proof_is_not_replaced_by_one_without(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(document(proof(*ROWS))))
    with pytest.raises(
        ArtifactError, match=r"tiny\.json: is there already .* a proof in float32 against numpy"
    ):
        builder.require_no_loss(path, document(NOT_COMPARED))
    builder.require_no_loss(path, document(proof(*ROWS)))


def test_lost_proofs_are_listed_in_order(tmp_path: Path) -> None:
    claims = builder.parity(proof(*ROWS))
    check = claims["checks"][0]
    claims["checks"] = [check, check | {"dtype": "float64"}]
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"parity": claims, "labels": None, "artifact": {}}))
    with pytest.raises(ArtifactError, match="in float32 against numpy and float64 against numpy that"):
        builder.require_no_loss(path, document(NOT_COMPARED))


@pytest.mark.parametrize(("depth", "is_read"), [(10, True), (100_000, False)])
def test_deeply_nested_manifest_is_replaced_like_an_unreadable_one(
    depth: int, tmp_path: Path, *, is_read: bool
) -> None:
    path = tmp_path / "tiny.json"
    before = json.dumps(document(proof(*ROWS))).removesuffix("}")
    path.write_text(f'{before}, "more": {"[" * depth}{"]" * depth}}}')
    if is_read:
        with pytest.raises(ArtifactError, match="a proof in float32 against numpy that this run has not"):
            builder.require_no_loss(path, document(NOT_COMPARED))
    else:
        builder.require_no_loss(path, document(NOT_COMPARED))
