"""Find files of weights, and what their manifests record; needs no torch."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

HASHED = re.compile(r".+-(?P<sha256>[0-9a-fA-F]{8,64})\.(safetensors|pth)")
SUMS = "SHA256SUMS"
PUBLISHED = "model.safetensors"  # the file name in a published folder
MANIFEST = "manifest.json"  # its manifest


class RecordedNormalization(TypedDict, total=False):
    """The normalization of images in a manifest, on a scale from 0 to 1; empty if it has none."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class WeightsError(ValueError):
    """The weights are missing, damaged, or of another network."""


def find(path: Path, name: str) -> Path:
    """Return the path of the weights: the path itself, or the only file for the network in a folder.

    Raises:
        WeightsError: if a folder contains no file for the network, or more than one.
    """
    if not path.is_dir():
        return path
    if (path / PUBLISHED).is_file():
        return path / PUBLISHED
    files = [file for file in sorted(path.glob(f"{name}*")) if HASHED.fullmatch(file.name)]
    files = [file for file in files if file.name[len(name)] in "-."]
    files = [file for file in files if file.suffix == ".safetensors"] or files  # a .pth is a copy
    if len(files) != 1:
        listing = ", ".join(file.name for file in files) or "none"
        raise WeightsError(f"{path}: expected one file of {name} or {PUBLISHED}, found {listing}")
    return files[0]


def arguments(path: Path) -> dict[str, Any]:
    """Return the arguments of ``create_model`` that the manifest of a file records."""
    return _object(_manifest(path), "model_args")


def normalization(path: Path) -> RecordedNormalization:
    """Return the normalization of images that was exported with a network."""
    recorded = _object(_object(_manifest(path), "source"), "preprocessing")
    if not recorded:
        return {}
    return {"mean": tuple(recorded["mean"]), "std": tuple(recorded["std"])}


def _manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a file of weights, empty if it has none under a name of gluon2torch's."""
    if path.name == PUBLISHED:
        return _read_object(path.with_name(MANIFEST))
    for file in sorted(path.parent.glob("*.json")):
        manifest = _read_object(file)
        artifact = _object(manifest, "artifact")
        if path.name in {artifact.get("file"), _object(artifact, "pth").get("file")}:
            return manifest
    return {}


def _read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, empty if it is missing or not an object."""
    try:
        return _object({"": json.loads(path.read_bytes())}, "")
    except (OSError, ValueError):
        return {}


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a JSON object in another one, empty if it is missing."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
