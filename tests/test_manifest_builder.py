"""How a manifest records a proof, and which manifests a weaker one may not replace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from converter.errors import ArtifactError
from converter.manifests import builder, schema
from converter.manifests.schema import (
    ArtifactRecord,
    LogitsRecord,
    Manifest,
    MappingRecord,
    ParityRecord,
    RoundingRecord,
)
from converter.manifests.source_records import SourceRecord
from converter.networks.mapping import Layer
from converter.parity.result import NOT_COMPARED, LayerDiff, ParityResult, ProbeResult, Statistics
from converter.references.probes import Probe

if TYPE_CHECKING:
    from pathlib import Path

PROBE = Probe("float32", (65, 97), seed=3)
ANY = Statistics(0.0, 1.0)


def row(name: str, kind: str, limit: float, max_abs: float, relative: float) -> LayerDiff:
    return LayerDiff(Layer(name, name, kind, "stem"), limit, max_abs, relative, ANY, ANY)


# A layer passes up to 1e-4 of the deviation, the logits up to 1e-5.
ROWS = (
    row("features.0", "conv", 1e-4, max_abs=0.5, relative=5e-5),
    row("features.1", "batchnorm", 1e-4, max_abs=0.25, relative=2e-6),
    row("output", "dense", 1e-5, max_abs=0.125, relative=3e-6),
)


def proof(*rows: LayerDiff) -> ParityResult:
    return ParityResult("numpy", {"numpy": "1.26"}, (ProbeResult(PROBE, rows),), "gluoncv")


def test_logits_row_is_written_to_the_manifest() -> None:
    assert msgspec.to_builtins(builder.parity(proof(*ROWS))) == {
        "proven": True,
        "reference": "numpy",
        "definition": "gluoncv",
        "versions": {"numpy": "1.26"},
        "checks": (
            {
                "dtype": "float32",
                "size": "65x97",
                "seed": 3,
                "max_abs": 0.125,
                "relative": 3e-6,
                "limit": 1e-5,
                "layers": 3,
                "worst": {"layer": "features.0", "relative": 5e-5, "limit": 1e-4},
            },
        ),
    }


@pytest.mark.parametrize(("last", "max_abs", "relative"), [(0, 0.5, 5e-5), (1, 0.25, 2e-6), (2, 0.125, 3e-6)])
def test_logits_row_is_the_last_row(last: int, max_abs: float, relative: float) -> None:
    rows = [*ROWS[:last], *ROWS[last + 1 :], ROWS[last]]
    (check,) = builder.parity(proof(*rows)).checks
    assert (check.max_abs, check.relative) == (max_abs, relative)
    assert check.worst.layer == "features.0"


def manifest(parity: ParityRecord) -> Manifest:
    return Manifest(
        model="tiny",
        source=SourceRecord(file="tiny.params", sha1="0" * 40, official=False),
        mapping=MappingRecord(file="resnext.toml", sha256="0" * 64),
        artifact=ArtifactRecord(
            file="tiny.safetensors",
            sha256="0" * 64,
            bytes=1,
            dtypes=("float32",),
            tensors=1,
            parameters=1,
        ),
        parity=parity,
        labels=None,
        version="0",
    )


PROVEN, UNPROVEN = (manifest(builder.parity(each)) for each in (proof(*ROWS), NOT_COMPARED))


def test_manifest_with_a_proof_is_not_replaced_by_one_without(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_bytes(schema.encode(PROVEN))
    with pytest.raises(
        ArtifactError,
        match=r"tiny\.json: already describes .* with a proof in float32 against numpy",
    ):
        builder.require_no_loss(path, UNPROVEN)
    builder.require_no_loss(path, PROVEN)


def test_lost_proofs_are_listed_in_order(tmp_path: Path) -> None:
    (check,) = PROVEN.parity.checks
    both = (check, msgspec.structs.replace(check, dtype="float64"))
    parity = msgspec.structs.replace(PROVEN.parity, checks=both)
    path = tmp_path / "tiny.json"
    path.write_bytes(schema.encode(manifest(parity)))
    with pytest.raises(
        ArtifactError, match="in float32 against numpy and float64 against numpy, which this run"
    ):
        builder.require_no_loss(path, UNPROVEN)


@pytest.mark.parametrize(("depth", "is_read"), [(10, True), (100_000, False)])
def test_deeply_nested_manifest_is_treated_as_unreadable(
    depth: int, tmp_path: Path, *, is_read: bool
) -> None:
    path = tmp_path / "tiny.json"
    before = schema.encode(PROVEN).decode().rstrip().removesuffix("}")
    path.write_text(f'{before}, "more": {"[" * depth}{"]" * depth}}}')
    if is_read:
        with pytest.raises(ArtifactError, match="a proof in float32 against numpy, which this run"):
            builder.require_no_loss(path, UNPROVEN)
    else:
        builder.require_no_loss(path, UNPROVEN)


def test_manifest_of_a_newer_schema_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_bytes(schema.encode(msgspec.structs.replace(UNPROVEN, schema_version=schema.VERSION + 1)))
    with pytest.raises(ArtifactError, match=r"tiny\.json: manifest schema 2; "):
        builder.require_no_loss(path, PROVEN)


def test_proof_of_the_weights_is_not_replaced_by_one_before_rounding(tmp_path: Path) -> None:
    logits = LogitsRecord(dtype="float64", size="65x95", seed=0, max_abs=0.1, relative=0.1)
    rounding = RoundingRecord(dtype="float16", before=PROVEN.parity, logits=logits)
    rounded = msgspec.structs.replace(UNPROVEN, narrowing=rounding)
    path = tmp_path / "tiny.json"
    path.write_bytes(schema.encode(PROVEN))
    with pytest.raises(ArtifactError, match="a proof in float32 against numpy, which this run would discard"):
        builder.require_no_loss(path, rounded)
    path.write_bytes(schema.encode(rounded))
    builder.require_no_loss(path, PROVEN)
    with pytest.raises(ArtifactError, match="a proof in float32 against numpy"):
        builder.require_no_loss(path, UNPROVEN)
