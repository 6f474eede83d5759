"""What a manifest says of an artifact: whence it came, by which mapping, how well proven. No clock in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter import __version__

if TYPE_CHECKING:
    from converter.artifact import Draft
    from converter.catalog import Model
    from converter.mapping import Mapping
    from converter.proof import Check, Proof
    from converter.source import Source

CONTAINER = "ndarray-list"


def build(  # noqa: PLR0913 - one section of the manifest each
    *, model: Model, source: Source, dialect: str, mapping: Mapping, written: Draft, file: str, proof: Proof
) -> dict[str, Any]:
    """Return the manifest of an artifact that is to be called ``file``."""
    return {
        "model": model.name,
        "source": {
            "file": source.name,
            "sha1": source.sha1,
            "container": CONTAINER,
            "dialect": dialect,
            "official": source.official,
        },
        "mapping": {"file": mapping.file, "sha256": mapping.sha256},
        "artifact": {
            "file": file,
            "sha256": written.sha256,
            "bytes": written.size,
            "tensors": len(model.shapes),
            "parameters": model.parameters,
        },
        "parity": {
            "proven": proof.passed,
            "reference": proof.reference,
            "versions": proof.versions,
            "checks": [_check(check) for check in proof.checks],
        },
        "version": __version__,
    }


def _check(check: Check) -> dict[str, Any]:
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
