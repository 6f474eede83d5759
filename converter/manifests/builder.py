"""What a manifest says of an artifact: whence it came, by which mapping, how well proven. No clock in it."""

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
    """What was found about the written weights.

    Where they were rounded the ``proof`` is of the weights before that, and ``narrowing`` what it cost.
    """

    proof: ParityResult = NOT_COMPARED
    narrowing: RoundingReport | None = None
    labels: tuple[str, ...] = ()


def build(
    prepared: LoadedModel, written: ArtifactDraft, file: str, findings: ManifestResults
) -> dict[str, Any]:
    """Return the manifest of an artifact that is to be called ``file``."""
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
    """Refuse to replace a manifest of the same bytes that has a stronger proof, a ``.pth`` or class names.

    Errors: ``ArtifactError``.
    """
    try:
        before = json.loads(disk.read_small(path, MAX_MANIFEST_BYTES, ArtifactError))
        proven, labels, pth = _proven(before), before["labels"], before["artifact"].get("pth")
    except (ArtifactError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # nothing is there that could be lost
    lost = [
        *(
            [f"a proof in {' and '.join(map(str, sorted(strength.strongest(weaker))))}"]
            if (weaker := proven - _proven(document))
            else []
        ),
        *(["a .pth"] if pth and "pth" not in document["artifact"] else []),
        *(["class names"] if labels and document["labels"] != labels else []),
    ]
    if lost:
        raise ArtifactError(
            f"{path}: is there already for the same bytes, with {' and '.join(lost)} that this run has not; "
            "give them again, or another folder"
        )


def _proven(document: dict[str, Any]) -> set[Claim]:
    """Return what is proven of the weights, or of those before rounding."""
    proofs = [document["parity"], document.get("narrowing", {}).get("before", {})]
    return {claim for proof in proofs for claim in strength.without_sizes(strength.claims(proof))}


def parity(proof: ParityResult) -> dict[str, Any]:
    """Return what a manifest says of a proof."""
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
