"""Build the JSON document of a parity check, which tables, reports and summaries are made from."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from converter import __version__, names
from converter.parity import result

if TYPE_CHECKING:
    from converter.parity.checkpoint_comparison import CheckpointComparison
    from converter.parity.diagnosis import Diagnosis
    from converter.parity.result import LayerDiff, ProbeResult

Document = dict[str, Any]

REFERENCES = {
    ("gluon", "gluoncv"): "GluonCV",
    ("gluon", "graph"): "the graph, run by MXNet",
    ("numpy", "gluoncv"): "our numpy forward of its parameters",
    ("numpy", "graph"): "our numpy forward, wired as the graph is",
}


def against(reference: str, definition: str | None) -> str:
    """Describe what the outputs were compared with.

    Args:
        reference: the reference's name.
        definition: "graph" or "gluoncv"; None in manifests before 0.2.
    """
    return REFERENCES.get((reference, definition or "gluoncv"), reference)


def build(comparison: CheckpointComparison) -> Document:
    """Return the document. Numbers that are not finite become None, as JSON cannot represent them."""
    prepared, proof = comparison.prepared, comparison.proof
    weights = comparison.weights
    return {
        "model": prepared.model.name,
        "agrees": comparison.passed,
        "source": {
            "file": prepared.reading.source.name,
            "sha1": prepared.reading.source.sha1,
            "official": prepared.reading.source.is_published(prepared.model.published),
            "symbol": prepared.reading.graph.name if prepared.reading.graph else None,
        },
        "beside": comparison.beside,
        "weights": {"file": weights.file, "sha256": weights.sha256} if weights else None,
        "mapping": {"file": prepared.mapping.file, "sha256": prepared.mapping.sha256},
        "reference": {
            "name": proof.reference,
            "definition": proof.definition,
            "versions": proof.versions,
        },
        "tensors": {
            "compared": len(prepared.mapping.tensors),
            "apart": [{"name": diff.name, "found": str(diff)} for diff in comparison.tensors],
        },
        "blind": list(proof.blind),
        "checks": [_check(check) for check in proof.checks],
        "diagnosis": _diagnosis(comparison.diagnosis) if comparison.diagnosis else None,
        "version": __version__,
    }


def sentence(found: Document) -> str:
    """Summarize the result and its evidence in one sentence."""
    tensors, checks = found["tensors"], found["checks"]
    equal = tensors["compared"] - len(tensors["apart"])
    layers = max((len(check["layers"]) for check in checks), default=0)
    reference = against(found["reference"]["name"], found["reference"]["definition"])
    agreeing = sum(check["agrees"] for check in checks)
    return (
        f"{found['beside']} and {found['source']['file']}: {equal} of {tensors['compared']} tensors equal, "
        f"{layers} layers compared with {reference}, "
        f"{agreeing} of {len(checks)} checks passed"
    )


def problems(found: Document) -> list[str]:
    """Return the mismatches as lines; details are indented."""
    lines = []
    diffs = found["tensors"]["apart"]
    if diffs:
        lines.append(f"{len(diffs)} tensor{'s differ' if len(diffs) > 1 else ' differs'}")
        lines += [
            f"  {line}"
            for line in names.shorten([f"{tensor['name']}  {tensor['found']}" for tensor in diffs])
        ]
    lines += [
        f"{check['dtype']} at {check['size']}: {check['summary']}"
        for check in found["checks"]
        if not check["agrees"]
    ]
    lines += found["diagnosis"]["text"].split("\n") if found["diagnosis"] else []
    if found["blind"]:
        lines.append("these layers' outputs do not depend on their inputs, and prove nothing")
        lines += [f"  {pattern}" for pattern in names.collapse(found["blind"])]
    return lines


def _check(check: ProbeResult) -> Document:
    return {
        "dtype": check.probe.dtype,
        "size": check.probe.label,
        "seed": check.probe.seed,
        "agrees": check.agrees,
        "summary": result.describe(check),
        "failure": check.failure,
        "layers": [_row(row) for row in check.rows],
    }


def _row(row: LayerDiff) -> Document:
    return {
        "source": row.layer.source,
        "target": row.layer.target,
        "kind": row.layer.kind,
        "part": row.layer.part,
        "agrees": row.agrees,
        "max_abs": _number(row.max_abs),
        "relative": _number(row.relative),
        "limit": row.limit,
        "reference": {name: _number(value) for name, value in asdict(row.reference).items()},
        "module": {name: _number(value) for name, value in asdict(row.module).items()},
        "settings": [
            {"name": name, "reference": expected, "module": actual} for name, expected, actual in row.settings
        ],
        "remark": row.remark,
    }


def _diagnosis(diagnosis: Diagnosis) -> Document:
    return {
        "dtype": diagnosis.probe.dtype,
        "size": diagnosis.probe.label,
        "layer": _row(diagnosis.row),
        "suspicions": list(diagnosis.suspicions),
        "text": str(diagnosis),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
