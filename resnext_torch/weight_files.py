"""Find files of weights, and what is recorded next to them; needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from . import names
from .config import COLOURS, CONFIGS

if TYPE_CHECKING:
    from pathlib import Path

HASHED = re.compile(r".+-(?P<sha256>[0-9a-fA-F]{8,64})\.(safetensors|pth)")
SUMS = "SHA256SUMS"
SUFFIXES = (".safetensors", ".pth")
PARAMS_SUFFIX = ".params"  # of Gluon's parameters
NUMERALS = {2: "two", 3: "three", 4: "four"}
PUBLISHED = "model.safetensors"  # the file name in a published folder
MANIFEST = "manifest.json"  # its manifest
CONFIGURATION = "config.json"  # its configuration for timm
LABELS = "labels.txt"  # class names, one per line
# Arguments of the network, in manifests and configurations.
ARGUMENTS = {"drop_rate", "global_pool", "in_chans", "num_classes", "output_stride"}


class RecordedInput(TypedDict, total=False):
    """The normalization of images in a manifest, on a scale from 0 to 1, and their size; empty if none."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int, int]


class WeightsError(ValueError):
    """The weights are missing, damaged, or of another network."""


def convert_command(path: Path) -> str:
    """Return the last line of an error about Gluon's parameters: the command that converts them."""
    return f"  try         gluon2torch convert auto OUT --params {path}"


def find(path: Path, name: str | None = None) -> Path:
    """Return the path of the weights: the path itself, or the only file of weights in a folder.

    In a folder, ``model.safetensors`` comes first. A ``.pth`` that `convert` wrote, named by its hash, is a
    copy of the ``.safetensors`` next to it.

    Args:
        path: a file or folder.
        name: a network; in a folder, only files that are named after it.

    Raises:
        WeightsError: if a folder contains no such file, or more than one.
    """
    if not path.is_dir():
        return path
    if (path / PUBLISHED).is_file():
        return path / PUBLISHED
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if name is not None:
        files = [file for file in files if file.name.startswith((f"{name}-", f"{name}."))]
    if any(file.suffix == SUFFIXES[0] for file in files):  # a .pth that was written with it is a copy
        files = [file for file in files if file.suffix == SUFFIXES[0] or not HASHED.fullmatch(file.name)]
    if not files:
        raise _none_found(path, name)
    if len(files) > 1:
        count = NUMERALS.get(len(files), str(len(files)))
        listing = ", ".join(file.name for file in files)
        raise WeightsError(
            f"{count} models in {path}/: name one, such as {files[0]}\n  found       {listing}"
        )
    return files[0]


def _none_found(path: Path, name: str | None) -> WeightsError:
    expected = f"expected a file of {name} or {PUBLISHED}" if name else "expected a .safetensors or .pth file"
    params = sorted(file for file in path.iterdir() if PARAMS_SUFFIX in file.suffixes)
    if params:
        return WeightsError(f"{path}: {expected}, found Gluon parameters\n{convert_command(params[0])}")
    others = ", ".join(sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES))
    return WeightsError(f"{path}: {expected}, found {others or 'none'}")


def arguments(path: Path) -> dict[str, Any]:
    """Return the arguments of ``create_model`` that the manifest or the configuration of a file records.

    Raises:
        WeightsError: if the configuration has arguments of another network, or if the weights are for a
            module with other settings.
    """
    manifest = _manifest(path)
    target = _object(manifest, "target")
    if target.get("adaptations"):
        raise WeightsError(
            f"{path}: weights for {target.get('name')} with other settings, such as strides, "
            f"not for a network of list_models()\n  try  gluon2torch inspect {path}"
        )
    recorded = _object(manifest, "model_args")
    if not recorded and path.name == PUBLISHED:
        recorded = _object(configuration(path.parent), "model_args")
    if others := sorted(recorded.keys() - ARGUMENTS):
        raise WeightsError(f"{path}: the network has arguments that are not supported: {', '.join(others)}")
    return recorded


def configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration for timm of a published folder, empty if it has none."""
    return _read_object(folder / CONFIGURATION)


def description(path: Path) -> dict[str, Any]:
    """Return timm's description of the network that a published file has, with tuples for lists."""
    recorded = _object(configuration(path.parent), "pretrained_cfg") if path.name == PUBLISHED else {}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in recorded.items()}


def class_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a file: in its manifest, else in labels.txt, else in its configuration."""
    recorded = _manifest(path).get("labels")
    labels = path.with_name(LABELS)
    if not recorded and labels.is_file():
        recorded = labels.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    if not recorded and path.name == PUBLISHED:
        recorded = configuration(path.parent).get("label_names")
    return tuple(map(str, recorded)) if isinstance(recorded, list) else ()


def recorded_name(folder: Path) -> str | None:
    """Return the network that the configuration or the manifest of a published folder names, None if none.

    Raises:
        WeightsError: if the configuration names a network that is not in the package.
    """
    architecture = configuration(folder).get("architecture")
    name = architecture or _read_object(folder / MANIFEST).get("model")
    if not name:
        return None
    resolved = names.TIMM_NAMES.get(str(name), str(name))
    if resolved not in CONFIGS:
        raise WeightsError(f"{folder}: {name} is not in list_models()")
    return resolved


def is_proven(path: Path, name: str) -> bool:
    """Return whether a converted file is intact, proven, and has the weights that GluonCV published.

    Args:
        path: the file, with its manifest.
        name: the network.
    """
    manifest = _read_object(path.with_suffix(".json"))
    artifact, source = _object(manifest, "artifact"), _object(manifest, "source")
    return (
        (manifest.get("model"), artifact.get("file")) == (name, path.name)
        and source.get("official") is True
        and _object(manifest, "parity").get("proven") is True
        and not manifest.keys() & {"model_args", "narrowing"}
        and _sha256(path) == artifact.get("sha256")
    )


def recorded_input(path: Path) -> RecordedInput:
    """Return the normalization that was exported with a network, and the size of its training images."""
    manifest, recorded = _manifest(path), RecordedInput()
    match _preprocessing(manifest):
        case {"mean": [*mean], "std": [*std]}:
            recorded |= {"mean": tuple(mean), "std": tuple(std)}
    match _object(manifest, "training").get("size"):
        case int(size) if size > 0:
            recorded["input_size"] = (COLOURS, size, size)
    return recorded


def _manifest(path: Path) -> dict[str, Any]:
    """Return the manifest that records a file, empty if there is none.

    A name that contains a hash names one content; any other file is compared by its SHA-256.
    """
    manifests = [_read_object(file) for file in sorted(path.parent.glob("*.json"))]
    if match := HASHED.fullmatch(path.name):
        for manifest in manifests:
            hashes = [sha256 for sha256 in _recorded(manifest, "sha256") if isinstance(sha256, str)]
            is_named = path.name in _recorded(manifest, "file")
            if is_named and any(sha256.startswith(match["sha256"].lower()) for sha256 in hashes):
                return manifest
    # Hashing takes long, and most manifests record nothing that is used here.
    keys = {"labels", "model_args", "target", "training"}
    used = [each for each in manifests if keys & each.keys() or _preprocessing(each)]
    if not used or not path.is_file():
        return {}
    status = path.stat()
    sha256 = _sha256_of(path, status.st_mtime_ns, status.st_size)
    return next((manifest for manifest in used if sha256 in _recorded(manifest, "sha256")), {})


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _sha256_of(path: Path, _mtime: int, _size: int) -> str:
    """Return the SHA-256 of an unchanged file, to find its manifest: several functions look for it."""
    return _sha256(path)


def _recorded(manifest: dict[str, Any], key: str) -> list[Any]:
    """Return what a manifest records about the artifact and the ``.pth`` that was written with it."""
    artifact = _object(manifest, "artifact")
    return [artifact.get(key), _object(artifact, "pth").get(key)]


def _preprocessing(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the normalization of a converted or trained file."""
    place = "training" if "training" in manifest else "source"
    return _object(_object(manifest, place), "preprocessing")


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
