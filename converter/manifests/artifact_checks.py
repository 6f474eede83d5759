"""Checks of a converted file by the manifest next to it: the one judge of `verify` and `publish`."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from converter import __version__
from converter.errors import ArtifactError
from converter.formats import artifact
from converter.manifests import schema
from converter.manifests.checks import CheckList
from converter.manifests.schema import ConvertedFile
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.schema import ArtifactRecord, Manifest, PthRecord
    from converter.networks.catalog import Model

MANIFEST = ".json"  # in place of the artifact's suffix


def read(path: Path) -> ConvertedFile:
    """Read a converted file that passes every check.

    Raises:
        ConversionError: of the first check that fails.
    """
    if path.suffix == MANIFEST:
        raise ArtifactError(f"{path}: a .safetensors expected, whose manifest is next to it")
    checks = CheckList()
    found = check(checks, path, str(path))
    failed = next((finding for finding in checks.findings if finding.holds is False), None)
    if failed is not None:
        raise failed.error or ArtifactError(
            f"{failed.place}: its manifest says {failed.what} {failed.expected}; {failed.found} found"
        )
    if found is None:
        raise ArtifactError(f"{path}: cannot be read as a converted file")
    return found


def check(checks: CheckList, path: Path, name: str) -> ConvertedFile | None:
    """Check a converted file, its manifest and its .pth; return it, None if it cannot be read.

    Args:
        checks: where the findings go.
        path: the file.
        name: what the findings call it.
    """
    place = path.with_suffix(MANIFEST)
    found = check_manifest(checks, place, name)
    if found is None:
        return None
    content, manifest = found
    checks.equal(name, "name", manifest.artifact.file, disk.file_name(path))
    model = check_weights(checks, path, name, manifest)
    if pth := manifest.artifact.pth:
        digest = _check_bytes(checks, path.with_name(pth.file), pth.file, pth)
        _check_name(checks, pth.file, pth, digest)
        checks.unchecked(pth.file, "tensors", "of a pickle, which is not opened here")
    return ConvertedFile(path, model, manifest, content) if model else None


def check_manifest(checks: CheckList, place: Path, name: str) -> tuple[bytes, Manifest] | None:
    """Check that a manifest can be read and does not contradict itself; return its bytes and itself."""

    def read_sound() -> tuple[bytes, Manifest]:
        content, manifest = schema.read_manifest(place)
        schema.require_consistent(place, manifest)
        return content, manifest

    return checks.tried(name, "manifest", "readable and within its own limits", read_sound)


def check_weights(checks: CheckList, path: Path, name: str, manifest: Manifest) -> Model | None:
    """Check weights by a manifest; return their model, if it is the manifest's."""
    said = manifest.artifact
    digest = _check_bytes(checks, path, name, said)
    model = checks.tried(
        name,
        "tensors",
        f"{said.tensors} of {manifest.model}, {' and '.join(said.dtypes)}, {said.parameters:,} parameters",
        lambda: schema.model_of(path, manifest),
    )
    _check_name(checks, name, said, digest)
    if model is not None:
        published = schema.is_published(model, manifest.source.sha1)
        checks.equal(name, "official", str(published).lower(), str(manifest.source.official).lower())
        ours, theirs = model.mapping, manifest.mapping
        if manifest.version == __version__:
            told = f"{theirs.file} {theirs.sha256}"
            checks.equal(name, "mapping", f"{ours.file} {ours.sha256}", told)
        else:
            checks.unchecked(name, "mapping", of_version(manifest))
    if schema.is_random(manifest):
        checks.unchecked(name, "weights", "seeded random numbers, according to the manifest")
    return model


def of_version(manifest: Manifest) -> str:
    """Return why what depends on our version is not checked."""
    return f"written by version {manifest.version}, this is {__version__}"


def _check_bytes(checks: CheckList, path: Path, name: str, said: ArtifactRecord | PthRecord) -> str:
    """Check a file's size and SHA-256 by its manifest; return the SHA-256, "" if it cannot be read."""
    found = checks.tried(name, "file", said.file, lambda: schema.size_and_sha256(path), quiet=True)
    if found is None:
        return ""
    size, sha256 = found
    checks.equal(name, "bytes", str(said.bytes), str(size))
    checks.equal(name, "sha256", said.sha256, sha256)
    return sha256


def _check_name(checks: CheckList, name: str, said: ArtifactRecord | PthRecord, sha256: str) -> None:
    """Check that a file's name ends in the first digits of its SHA-256."""
    if sha256:
        digits = PurePath(said.file).stem.rpartition("-")[2]
        checks.equal(name, "hash in its name", sha256[: artifact.HASH_DIGITS], digits)
