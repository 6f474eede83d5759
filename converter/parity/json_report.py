"""What a parity check found, as one JSON document: what tables, reports and summaries are made of."""

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
    """Return in words what the outputs were compared with; manifests before 0.2 have no ``definition``."""
    return REFERENCES.get((reference, definition or "gluoncv"), reference)


def build(comparison: CheckpointComparison) -> Document:
    """Return the document. A number that is not finite is None: JSON has none such."""
    prepared, proven = comparison.prepared, comparison.proof
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
            "name": proven.reference,
            "definition": proven.definition,
            "versions": proven.versions,
        },
        "tensors": {
            "compared": len(prepared.mapping.tensors),
            "apart": [{"name": apart.name, "found": str(apart)} for apart in comparison.tensors],
        },
        "blind": list(proven.blind),
        "checks": [_check(check) for check in proven.checks],
        "diagnosis": _diagnosis(comparison.diagnosis) if comparison.diagnosis else None,
        "version": __version__,
    }


def sentence(found: Document) -> str:
    """Return the verdict with its grounds, in a sentence."""
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
    """Return what speaks against agreement, in lines; details begin with a space."""
    lines = []
    apart = found["tensors"]["apart"]
    if apart:
        lines.append(f"{len(apart)} tensor{'s differ' if len(apart) > 1 else ' differs'}")
        lines += [
            f"  {line}"
            for line in names.shorten([f"{tensor['name']}  {tensor['found']}" for tensor in apart])
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
            {"name": name, "reference": expected, "module": found} for name, expected, found in row.settings
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
