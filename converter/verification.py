"""Whether what lies on a disk is what was converted or published: every name, hash, size, tensor and sum.

Hashes that lie beside the files show accidents, and not who wrote both. A signature, checked by a key that
came another way, shows that.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from converter import __version__, converted
from converter.checks import Checks
from converter.errors import ArtifactError, VerificationError
from converter.files import artifact, disk, folders, locks
from converter.publishing import publication, signature, sums, timm_config
from converter.publishing.publication import CONFIG, MANIFEST, WEIGHTS
from converter.publishing.signature import HUBS_OWN, SIGNATURE
from converter.publishing.sums import SUMS

if TYPE_CHECKING:
    from pathlib import Path

    from converter.checks import Finding
    from converter.converted import Manifest, Pth, Written
    from converter.files.folders import Folder
    from converter.models.catalog import Model

ARTIFACT, BESIDE = ".safetensors", ".json"
THERE, NOTHING = "there", "nothing"
OURS = "the one that publish writes"
SIGNED = "signature"


@dataclass(frozen=True, slots=True)
class Verification:
    """All that was looked at; ``signed`` says that a signature by the given key holds for all of it."""

    findings: tuple[Finding, ...]
    signed: bool

    @property
    def holds(self) -> bool:
        """Whether everything that was checked is as it should be."""
        return all(finding.holds is not False for finding in self.findings)


class _Config(msgspec.Struct, frozen=True):
    """What is checked of a folder's config.json; the rest its sum holds."""

    num_classes: int
    label_names: tuple[str, ...] | None = None


def verify(path: Path, key: Path | None = None) -> Verification:
    """Check a converted file, a folder of such, or a published folder; with a public ``key`` its signature.

    What is wrong is a finding. Errors: ``VerificationError`` where there is nothing to verify,
    ``SignatureError`` where nothing can be checked by this key here.
    """
    if key is not None:
        signature.require_public_key(key)
    checks = Checks()
    if not folders.is_folder(path):
        disk.require_regular(path, VerificationError)
        if path.suffix != ARTIFACT:
            raise VerificationError(f"{path}: a converted {ARTIFACT} expected, or a folder")
        _converted(checks, path, path.name, key)
    elif _is_published(path):
        _published(checks, path, "", key)
    else:
        _folder(checks, path, key)
    signatures = [finding.holds is True for finding in checks.findings if finding.what == SIGNED]
    return Verification(tuple(checks.findings), signed=bool(signatures) and all(signatures))


def _is_published(folder: Path) -> bool:
    return not {SUMS, WEIGHTS}.isdisjoint(folders.names(folder))


def _is_left_over(name: str) -> bool:
    """Return whether a file, or a folder it is in, is of a run that did not end."""
    return any(part.startswith(locks.PREFIX) for part in name.split("/"))


def _folder(checks: Checks, folder: Path, key: Path | None) -> None:
    """Check a folder of converted files, or of published folders."""
    inside = [folder / name for name in folders.names(folder)]
    ours = [
        path for path in inside if path.is_dir() and not path.is_symlink() and not _is_left_over(path.name)
    ]
    published = [path for path in ours if _is_published(path)]
    tree = folders.read(folder, tuple(path.name for path in published))
    artifacts = [name for name in tree.files if name.endswith(ARTIFACT) and not _is_left_over(name)]
    if not artifacts and not published:
        raise VerificationError(f"{folder}: neither a converted file nor a published folder is in it")
    _strange(checks, tree, "")
    known: set[str] = set()
    for name in artifacts:
        known |= _converted(checks, tree.files[name], name, key)
    for name in sorted(tree.files.keys() - known):
        if not _is_left_over(name):  # which was said already
            _remaining(checks, tree.files[name], name)
    for path in published:
        _published(checks, path, f"{path.name}/", key)


def _remaining(checks: Checks, path: Path, name: str) -> None:
    """Note a file that goes with no artifact; a manifest without one has lost it."""
    with contextlib.suppress(ArtifactError):  # then it is something else
        if path.suffix == BESIDE:
            lost = converted.read_manifest(path)[1].artifact.file
            checks.wrong(name, "artifact", lost, NOTHING)
            return
    checks.unchecked(name, "file", "belongs to no converted file")


def _converted(checks: Checks, path: Path, name: str, key: Path | None) -> set[str]:
    """Check a converted file by the manifest beside it; return the names of all that belongs to it."""
    known = {path.name, path.with_suffix(BESIDE).name}
    manifest = _manifest(checks, path.with_suffix(BESIDE), name)
    if manifest is not None:
        checks.equal(name, "name", manifest.artifact.file, disk.file_name(path))
        _weights(checks, path, name, manifest)
        if pth := manifest.artifact.pth:
            _bytes(checks, path.with_name(pth.file), pth.file, pth)
            checks.unchecked(pth.file, "tensors", "of a pickle, which is not opened here")
            known.add(pth.file)
    if key is not None:
        checks.wrong(name, SIGNED, f"one by {key}", f"{NOTHING}; published folders are what is signed")
    return {(PurePosixPath(name).parent / each).as_posix() for each in known}


def _published(checks: Checks, folder: Path, prefix: str, key: Path | None) -> None:
    """Check a published folder: what is in it is listed, what is listed is in it, and all agrees."""
    tree = folders.read(folder, HUBS_OWN)
    _strange(checks, tree, prefix)
    _sums(checks, folder, tree, prefix)
    weights, place, config = (tree.files.get(name) for name in (WEIGHTS, MANIFEST, CONFIG))
    if weights and place and (manifest := _manifest(checks, place, prefix + MANIFEST)):
        model = _weights(checks, weights, prefix + WEIGHTS, manifest)
        if model and config:
            _config(checks, config, prefix + CONFIG, model, manifest)
    if key is not None:
        checks.tried(
            prefix + SIGNATURE, SIGNED, f"one by {key}, of these files", lambda: signature.check(folder, key)
        )
    elif SIGNATURE in tree.files:
        checks.unchecked(prefix + SIGNATURE, SIGNED, "is there; --key checks it")


def _strange(checks: Checks, tree: Folder, prefix: str) -> None:
    for name, reason in tree.strange.items():
        checks.wrong(prefix + name, "kind", "a file or a folder, in here", reason)
    for name in tree.files:
        if _is_left_over(name):
            checks.wrong(prefix + name, "file", NOTHING, "of a run that was stopped, or is not done")
    for name in tree.left_out:
        if name in HUBS_OWN:
            checks.unchecked(prefix + name, "file", "the hub's own, which nobody loads")


def _sums(checks: Checks, folder: Path, tree: Folder, prefix: str) -> None:
    listed = checks.tried(
        prefix + SUMS, "form", "a SHA-256 and a name in every line", lambda: sums.read(folder)
    )
    for name in sorted({*(listed or {}), *tree.files, *publication.ALWAYS} - {SUMS, SIGNATURE}):
        said = (listed or {}).get(name)
        if name not in tree.files:
            checks.wrong(prefix + name, "file", THERE, NOTHING)
        elif said is None:
            checks.wrong(prefix + name, "sum", f"a line in {SUMS}", NOTHING)
        else:
            checks.equal(prefix + name, "sum", said, _digest(tree.files[name]))
            if name not in {*publication.ALWAYS, publication.REPORT}:
                checks.unchecked(prefix + name, "contents", "a file that publish does not write")


def _digest(path: Path) -> str:
    try:
        return disk.sha256(path, ArtifactError)
    except ArtifactError as error:
        return str(error)


def _manifest(checks: Checks, place: Path, name: str) -> Manifest | None:
    def read() -> Manifest:
        found = converted.read_manifest(place)[1]
        converted.require_sound(place, found)
        return found

    return checks.tried(name, "manifest", "one that can be read and keeps its own limits", read)


def _weights(checks: Checks, path: Path, name: str, manifest: Manifest) -> Model | None:
    """Check weights by a manifest; return their model, if it is the manifest's."""
    said = manifest.artifact
    _bytes(checks, path, name, said)
    model = checks.tried(
        name,
        "tensors",
        f"{said.tensors} of {manifest.model}, {' and '.join(said.dtypes)}, {said.parameters:,} parameters",
        lambda: converted.model_of(path, manifest),
    )
    if model is not None:
        published = manifest.source.sha1 == model.entry.params_sha1
        checks.equal(name, "official", str(published).lower(), str(manifest.source.official).lower())
        if manifest.version == __version__:  # another's tables we do not have
            ours, theirs = model.mapping, manifest.mapping
            told = f"{theirs.file} {theirs.sha256}"
            checks.equal(name, "mapping", f"{ours.file} {ours.sha256}", told)
    if converted.is_random(manifest):
        checks.unchecked(name, "weights", "seeded random numbers, by the manifest's word")
    return model


def _bytes(checks: Checks, path: Path, name: str, said: Written | Pth) -> None:
    """Check a file's size and SHA-256, and the end of its name, by what a manifest says of it."""
    try:
        found = converted.compared(path, said)
    except ArtifactError as error:
        checks.wrong(name, "file", said.file, str(error))
        return
    for what, told, is_so in found[1:]:  # in a published folder the file's name is another
        checks.equal(name, what, told, is_so)
    digits = found[-1][-1][: artifact.HASH_DIGITS]
    checks.equal(name, "hash in its name", digits, PurePath(said.file).stem.rpartition("-")[2])


def _config(checks: Checks, path: Path, name: str, model: Model, manifest: Manifest) -> None:
    try:
        content = disk.read_small(path, converted.MAX_MANIFEST_BYTES, ArtifactError)
        found = msgspec.json.decode(content, type=_Config)
    except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        checks.wrong(name, "form", "a configuration for timm", str(error))
        return
    checks.equal(name, "classes", str(model.config.num_classes), str(found.num_classes))
    checks.equal(name, "class names", _names(manifest.labels), _names(found.label_names))
    if manifest.version == __version__:
        same = msgspec.json.decode(content) == timm_config.document(model, manifest.labels)
        checks.equal(name, "configuration", OURS, OURS if same else "another")


def _names(labels: tuple[str, ...] | None) -> str:
    return ", ".join(labels) if labels else NOTHING
