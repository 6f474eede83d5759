"""Build the manifest of an artifact from its source, mapping and proof, without timestamps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter import __version__, names
from converter.errors import ArtifactError
from converter.manifests.schema import MAX_MANIFEST_BYTES
from converter.parity import strength
from converter.parity.result import NOT_COMPARED
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.artifact import ArtifactDraft
    from converter.networks.loading import LoadedModel
    from converter.parity.result import ParityResult, ProbeResult
    from converter.parity.rounding import RoundingReport
    from converter.parity.strength import Claim


@dataclass(frozen=True, slots=True)
class ManifestResults:
    """Results about the written weights.

    Attributes:
        proof: comparison of the weights; if they were rounded, of the weights before rounding.
        narrowing: effect of rounding on the logits, None if the weights were not rounded.
        labels: class names.
    """

    proof: ParityResult = NOT_COMPARED
    narrowing: RoundingReport | None = None
    labels: tuple[str, ...] = ()


def build(
    prepared: LoadedModel, written: ArtifactDraft, file: str, findings: ManifestResults
) -> dict[str, Any]:
    """Build the manifest of an artifact.

    Args:
        prepared: the parameters and their model.
        written: the artifact.
        file: final name of the artifact.
        findings: results about the artifact.
    """
    model, narrowing = prepared.model, findings.narrowing
    document = {
        "model": model.name,
        "source": _source(prepared),
        "mapping": {"file": prepared.mapping.file, "sha256": prepared.mapping.sha256},
        "artifact": {
            "file": file,
            "sha256": written.sha256,
            "bytes": written.size,
            "dtypes": list(written.dtypes),
            "tensors": len(model.shapes),
            "parameters": model.parameters,
        },
        "parity": parity(findings.proof) if narrowing is None else parity(NOT_COMPARED),
        "labels": list(findings.labels) or None,
        "version": __version__,
    }
    if narrowing is not None:
        document["narrowing"] = {
            "dtype": narrowing.precision.value,
            "before": parity(findings.proof),
            "logits": {
                "dtype": narrowing.probe.dtype,
                "size": narrowing.probe.label,
                "seed": narrowing.probe.seed,
                "max_abs": narrowing.max_abs,
                "relative": narrowing.relative,
            },
        }
    return document


def _source(prepared: LoadedModel) -> dict[str, Any]:
    reading = prepared.reading
    source = reading.source
    return {
        "file": source.name,
        "sha1": source.sha1,
        "archive": source.archive,
        "container": reading.file.container,
        "records": list(reading.file.records),
        "dialect": reading.naming.dialect,
        "symbol": reading.graph.name if reading.graph else None,
        "symbol_sha256": hashlib.sha256(reading.graph.content).hexdigest() if reading.graph else None,
        "final_softmax": reading.wiring.softmax if reading.wiring else None,
        "fixed_gammas": names.collapse(reading.fixed_gammas),
        "official": source.is_published(prepared.model.published),
    }


def require_no_loss(path: Path, document: dict[str, Any]) -> None:
    """Refuse to replace a manifest of the same bytes that has a stronger proof, a ``.pth`` or labels.

    Raises:
        ArtifactError: if any of these would be lost.
    """
    try:
        previous = json.loads(disk.read_small(path, MAX_MANIFEST_BYTES, ArtifactError))
        claims, labels, pth = _claims(previous), previous["labels"], previous["artifact"].get("pth")
    except (ArtifactError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # no valid manifest that could be lost
    loss = [
        *(
            [f"a proof in {' and '.join(map(str, sorted(strength.strongest(lost_claims))))}"]
            if (lost_claims := claims - _claims(document))
            else []
        ),
        *(["a .pth"] if pth and "pth" not in document["artifact"] else []),
        *(["class names"] if labels and document["labels"] != labels else []),
    ]
    if loss:
        raise ArtifactError(
            f"{path}: is there already for the same bytes, with {' and '.join(loss)} that this run has not; "
            "give them again, or another folder"
        )


def _claims(document: dict[str, Any]) -> set[Claim]:
    """Return the claims about the weights, and about the weights before rounding."""
    proofs = [document["parity"], document.get("narrowing", {}).get("before", {})]
    return {claim for proof in proofs for claim in strength.without_sizes(strength.claims(proof))}


def parity(proof: ParityResult) -> dict[str, Any]:
    """Return the ``parity`` section of a manifest."""
    return {
        "proven": proof.passed,
        "reference": proof.reference,
        "definition": proof.definition,
        "versions": proof.versions,
        "checks": [_check(check) for check in proof.checks],
    }


def _check(check: ProbeResult) -> dict[str, Any]:
    logits = check.rows[-1]
    return {
        "dtype": check.probe.dtype,
        "size": check.probe.label,
        "seed": check.probe.seed,
        "max_abs": logits.max_abs,
        "relative": logits.relative,
        "limit": check.limit,
        "layers": len(check.rows),
        "worst": {
            "layer": check.worst.layer.source,
            "relative": check.worst.relative,
            "limit": check.worst.limit,
        },
    }
