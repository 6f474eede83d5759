"""Manifest documents for tests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gluon_cifar_resnext29_32x4d"
UNPROVEN: dict[str, Any] = {"proven": False, "reference": "none", "versions": {}, "checks": []}
PROVEN = {**UNPROVEN, "proven": True}
LOGITS = {"dtype": "float32", "size": "65x95", "seed": 0, "max_abs": 0.1, "relative": 0.1}
SOURCE = {"file": "a.params", "sha1": "0" * 40, "official": False}


def manifest(weights: Path, **changes: object) -> dict[str, Any]:
    """Return a manifest of a file of weights, with the given keys replaced."""
    return {
        "model": MODEL,
        "source": SOURCE,
        "mapping": {"file": "resnext.toml", "sha256": "0" * 64},
        "artifact": {
            "file": weights.name,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "bytes": weights.stat().st_size,
            "dtypes": ["float32"],
            "tensors": 1,
            "parameters": 1,
        },
        "parity": UNPROVEN,
        "labels": None,
        "version": "0.1.0",
        **changes,
    }
