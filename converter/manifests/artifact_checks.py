"""Check a converted or trained file against its manifest, for both `verify` and `publish`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from converter import __version__
from converter.errors import ArtifactError
from converter.formats import artifact
from converter.manifests import consistency, converted_file, schema
from converter.manifests.checks import CheckList
from converter.manifests.converted_file import ConvertedFile
from converter.manifests.schema import NATIVE, TrainedManifest
from converter.networks import catalog
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.graph_records import ModuleRecord
    from converter.manifests.schema import (
        AnyManifest,
        ArtifactRecord,
        DataRecord,
        ExportRecord,
        Manifest,
        PthRecord,
    )
    from converter.networks.catalog import Model

    FileRecord = ArtifactRecord | DataRecord | ExportRecord | PthRecord

MANIFEST = ".json"  # replaces the artifact's suffix
NOT_CLAIMED = "trained, not converted: no parity is claimed"


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that have the tensors in their manifest.

    Attributes:
        model: their model, None for the module of a graph.
    """

    model: Model | None


def read(path: Path) -> ConvertedFile:
    """Read a converted file that passes every check.

    Raises:
        ConversionError: if a check fails; reports the first one.
    """
    if path.suffix == MANIFEST:
        raise ArtifactError(f"{path}: is a manifest; name the .safetensors next to it")
    if not path.name:
        raise ArtifactError(f"{path}: is a folder; name the .safetensors")
    checks = CheckList()
    converted = check(checks, path, str(path))
    failure = next((result for result in checks.results if result.holds is False), None)
    if failure is not None:
        raise failure.error or ArtifactError(
            f"{failure.place}: {failure.what} differs from the manifest: expected {failure.expected}, "
            f"found {failure.actual}"
        )
    if converted is None:
        raise ArtifactError(f"{path}: not a readable converted file")
    return converted


def check(checks: CheckList, path: Path, name: str) -> ConvertedFile | None:
    """Check a converted file, its manifest, its ``.pth`` and its exported files.

    Args:
        checks: list that collects the results.
        path: the file.
        name: name of the file in the results.

    Returns:
        The converted file, or None if it cannot be read.
    """
    manifest_path = path.with_suffix(MANIFEST)
    manifest_file = check_manifest(checks, manifest_path, name)
    if manifest_file is None:
        return None
    manifest, content = manifest_file
    checks.equal(name, "name", manifest.artifact.file, disk.file_name(path))
    weights = check_weights(checks, path, name, manifest)
    if module := converted_file.generated_module(manifest):
        check_module(checks, path.with_name(module.file), module)
    if pth := manifest.artifact.pth:
        digest = _check_bytes(checks, path.with_name(pth.file), pth.file, pth)
        _check_name(checks, pth.file, pth, digest)
        checks.unchecked(pth.file, "tensors", "a pickle, which is not opened")
    for export in manifest.artifact.exports:
        digest = _check_bytes(checks, path.with_name(export.file), export.file, export)
        _check_name(checks, export.file, export, digest)
        if export.data:
            _check_bytes(checks, path.with_name(export.data.file), export.data.file, export.data)
        checks.unchecked(export.file, "outputs", "the file is not run")
    return ConvertedFile(path, weights.model, manifest, content) if weights else None


def check_manifest(checks: CheckList, path: Path, name: str) -> tuple[AnyManifest, bytes] | None:
    """Check that a manifest is readable and consistent; return it and its bytes."""

    def read_consistent() -> tuple[AnyManifest, bytes]:
        manifest, content = schema.read_any(path)
        consistency.require_consistent(path, manifest)
        return manifest, content

    result = checks.tried(name, "manifest", "readable and consistent", read_consistent)
    if result is not None:
        checks.manifests.append(result[0])
    return result


def check_weights(checks: CheckList, path: Path, name: str, manifest: AnyManifest) -> Weights | None:
    """Check weights against a manifest; return their model, or None if they are not the manifest's."""
    entry = manifest.artifact
    digest = _check_bytes(checks, path, name, entry)
    weights = checks.tried(
        name,
        "tensors",
        f"{entry.tensors} of {manifest.model}, {' and '.join(entry.dtypes)}, {entry.parameters:,} parameters",
        lambda: _weights(path, manifest),
    )
    if isinstance(manifest, TrainedManifest):
        _check_training(checks, name, manifest)
        return weights
    _check_name(checks, name, entry, digest)
    if weights and weights.model:
        _check_model(checks, name, weights.model, manifest)
    if converted_file.is_random(manifest):
        checks.unchecked(name, "weights", "seeded random numbers, according to the manifest")
    return weights


def check_module(checks: CheckList, path: Path, module: ModuleRecord) -> None:
    """Check the source of a generated module against its manifest."""
    result = checks.tried(
        module.file, "file", module.file, lambda: converted_file.size_and_sha256(path), quiet=True
    )
    if result is not None:
        checks.equal(module.file, "sha256", module.sha256, result[1])


def _weights(path: Path, manifest: AnyManifest) -> Weights:
    """Return the model of weights that have the tensors in their manifest.

    Raises:
        ConversionError: if they have others.
    """
    if not isinstance(manifest, TrainedManifest) and manifest.kind != NATIVE:
        converted_file.require_named(path, manifest)
        return Weights(None)
    return Weights(converted_file.model_of(path, manifest))


def _check_training(checks: CheckList, name: str, manifest: TrainedManifest) -> None:
    """Check who published the base of a training run, and record that its result is not proven."""
    base = manifest.training.base
    if base is not None and manifest.model in catalog.models():
        published = base.source_sha1 == catalog.find(manifest.model).entry.params_sha1
        if base.official:
            checks.equal(name, "official base", "true", str(published).lower())
    checks.unchecked(name, "parity", NOT_CLAIMED)


def _check_model(checks: CheckList, name: str, model: Model, manifest: Manifest) -> None:
    """Check what a manifest says about a model: who published it, and its mapping."""
    published = converted_file.is_published(model, manifest.source.sha1)
    checks.equal(name, "official", str(published).lower(), str(manifest.source.official).lower())
    ours, theirs = model.mapping, manifest.mapping
    if manifest.version != __version__:
        checks.unchecked(name, "mapping", of_version(manifest))
    elif theirs is not None:
        checks.equal(name, "mapping", f"{ours.file} {ours.sha256}", f"{theirs.file} {theirs.sha256}")


def of_version(manifest: AnyManifest) -> str:
    """Return why a check that depends on our version is skipped."""
    return f"written by version {manifest.version}, this is {__version__}"


def _check_bytes(checks: CheckList, path: Path, name: str, record: FileRecord) -> str:
    """Check a file's size and SHA-256 against its manifest; return the SHA-256, "" if unreadable."""
    result = checks.tried(name, "file", record.file, lambda: converted_file.size_and_sha256(path), quiet=True)
    if result is None:
        return ""
    size, sha256 = result
    checks.equal(name, "bytes", str(record.bytes), str(size))
    checks.equal(name, "sha256", record.sha256, sha256)
    return sha256


def _check_name(checks: CheckList, name: str, record: FileRecord, sha256: str) -> None:
    """Check that a file's name ends in the first digits of its SHA-256."""
    if sha256:
        digits = PurePath(record.file).stem.rpartition("-")[2]
        checks.equal(name, "hash in its name", sha256[: artifact.HASH_DIGITS], digits)
