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
    ("numpy", "gluoncv"): "the built-in NumPy reference",
    ("numpy", "graph"): "the graph, run by the built-in NumPy reference",
}


def describe_reference(reference: str, definition: str | None) -> str:
    """Describe what the outputs were compared with.

    Args:
        reference: the reference's name.
        definition: "graph" or "gluoncv"; None in manifests before 0.2.
    """
    return REFERENCES.get((reference, definition or "gluoncv"), reference)


def build(comparison: CheckpointComparison) -> Document:
    """Return the document. Numbers that are not finite become None, as JSON cannot represent them."""
    loaded, proof = comparison.loaded, comparison.proof
    weights = comparison.weights
    return {
        "model": loaded.model.name,
        "agrees": comparison.passed,
        "source": {
            "file": loaded.source.params_file.name,
            "sha1": loaded.source.params_file.sha1,
            "official": loaded.source.params_file.is_published(loaded.model.published),
            "symbol": loaded.source.graph.name if loaded.source.graph else None,
        },
        "beside": comparison.target_name,
        "weights": {"file": weights.file, "sha256": weights.sha256} if weights else None,
        "mapping": {"file": loaded.mapping.file, "sha256": loaded.mapping.sha256},
        "reference": {
            "name": proof.reference,
            "definition": proof.definition,
            "versions": proof.versions,
        },
        "tensors": {
            "compared": len(loaded.mapping.tensors),
            "apart": [{"name": diff.name, "found": str(diff)} for diff in comparison.tensors],
        },
        "blind": list(proof.vacuous_layers),
        "checks": [_check(check) for check in proof.checks],
        "diagnosis": _diagnosis(comparison.diagnosis) if comparison.diagnosis else None,
        "version": __version__,
    }


def sentence(document: Document) -> str:
    """Summarize the result and its evidence in one sentence."""
    tensors, checks = document["tensors"], document["checks"]
    equal = tensors["compared"] - len(tensors["apart"])
    layers = max((len(check["layers"]) for check in checks), default=0)
    reference = describe_reference(document["reference"]["name"], document["reference"]["definition"])
    agreeing = sum(check["agrees"] for check in checks)
    return (
        f"{document['beside']} and {document['source']['file']}: "
        f"{equal} of {tensors['compared']} tensors equal, "
        f"{layers} layers compared with {reference}, "
        f"{agreeing} of {len(checks)} checks passed"
    )


def problems(document: Document) -> list[str]:
    """Return the mismatches as lines; details are indented."""
    lines = []
    diffs = document["tensors"]["apart"]
    if diffs:
        lines.append(f"{len(diffs)} tensor{'s differ' if len(diffs) > 1 else ' differs'}")
        lines += [
            f"  {line}"
            for line in names.shorten([f"{tensor['name']}  {tensor['found']}" for tensor in diffs])
        ]
    lines += [
        f"{check['dtype']} at {check['size']}: {check['summary']}"
        for check in document["checks"]
        if not check["agrees"]
    ]
    lines += document["diagnosis"]["text"].split("\n") if document["diagnosis"] else []
    if document["blind"]:
        lines.append("these layers prove nothing: their outputs do not depend on their inputs")
        lines += [f"  {pattern}" for pattern in names.collapse(document["blind"])]
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
