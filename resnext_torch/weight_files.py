"""Find files of weights, and what their manifests record; needs no torch."""

from __future__ import annotations

import hashlib
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
    match _preprocessing(_manifest(path)):
        case {"mean": [*mean], "std": [*std]}:
            return {"mean": tuple(mean), "std": tuple(std)}
    return {}


def _manifest(path: Path) -> dict[str, Any]:
    """Return the manifest that records a file by its name, else by its SHA-256; empty if there is none."""
    if path.name == PUBLISHED and (published := _read_object(path.with_name(MANIFEST))):
        return published
    manifests = [_read_object(file) for file in sorted(path.parent.glob("*.json"))]
    for manifest in manifests:
        if path.name in _recorded(manifest, "file"):
            return manifest
    # Hashing takes long, and most manifests record nothing that is used here.
    used = [each for each in manifests if _object(each, "model_args") or _preprocessing(each)]
    if not used or not path.is_file():
        return {}
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return next((manifest for manifest in used if sha256 in _recorded(manifest, "sha256")), {})


def _recorded(manifest: dict[str, Any], key: str) -> list[Any]:
    """Return what a manifest records about the artifact and the ``.pth`` that was written with it."""
    artifact = _object(manifest, "artifact")
    return [artifact.get(key), _object(artifact, "pth").get(key)]


def _preprocessing(manifest: dict[str, Any]) -> dict[str, Any]:
    return _object(_object(manifest, "source"), "preprocessing")


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
