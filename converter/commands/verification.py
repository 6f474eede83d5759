"""Verify converted and trained files and published folders: names, hashes, sizes, tensors and sums.

Hashes stored next to the files detect accidental changes, but not someone who replaces both. A signature
detects that too, if its key was obtained through another channel.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from converter.commands import arguments, published_checks
from converter.commands.published_checks import NOTHING, SIGNED, class_names, is_left_over
from converter.errors import ArtifactError, StorageError, VerificationError
from converter.formats import artifact
from converter.formats import labels as label_files
from converter.manifests import artifact_checks, converted_file, schema
from converter.manifests.checks import CheckList
from converter.manifests.schema import Manifest, TrainedManifest
from converter.publishing import signature
from converter.publishing.published_files import MANIFEST
from converter.publishing.sums import SUMS
from converter.storage import disk, folders
from resnext_torch.weight_files import LABELS

if TYPE_CHECKING:
    from os import PathLike

    from converter.manifests.checks import CheckResult
    from converter.storage.folders import Folder

ARTIFACT = ".safetensors"

PROVES_HASHES = "the files are unchanged since the hashes were written"
PROVES_SIGNATURE = "the holder of the key signed exactly these files"
NOT_ORIGIN = "who wrote the files: whoever changes a file can change its hash too; --key checks a signature"
NOT_TRUTH = "that the proof in the manifest was really run; to check, convert again or run gluon2torch parity"
NOT_TRUTH_OF_TARGET = "that the proof in the manifest was really run; to check, convert again with --target"
NOT_MEASURED = (
    "that the weights were trained as the manifest says; to check its metrics, run gluon2torch evaluate"
)


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of all checks.

    Attributes:
        checks: results of the checks.
        signed: whether a signature by the given key is valid for everything that was checked.
        classifies_images: whether the path is one network, and `predict` can run it.
        converted: whether converted files were checked.
        trained: whether trained files were checked.
        of_targets: whether all converted files are for existing modules, which ``parity`` does not take.
    """

    checks: tuple[CheckResult, ...]
    signed: bool
    classifies_images: bool = False
    converted: bool = True
    trained: bool = False
    of_targets: bool = False

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(check.holds is not False for check in self.checks)

    @property
    def proves(self) -> list[str]:
        """What the checks prove, as text."""
        if not self.holds:
            return []
        return [PROVES_HASHES, *([PROVES_SIGNATURE] if self.signed else [])]

    @property
    def does_not_prove(self) -> list[str]:
        """What the checks do not prove, as text."""
        unknown = [] if self.signed else [NOT_ORIGIN]
        unknown += [NOT_TRUTH_OF_TARGET if self.of_targets else NOT_TRUTH] if self.converted else []
        return unknown + ([NOT_MEASURED] if self.trained else [])


class VerificationCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One check in the JSON document; ``holds`` is None if the property was not checked."""

    place: str
    what: str
    expected: str
    found: str
    holds: bool | None


class VerificationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of `gluon2torch verify`."""

    path: str
    holds: bool
    signed: bool
    proves: list[str]
    does_not_prove: list[str]
    checks: list[VerificationCheck]


def verify(path: str | PathLike[str], *, key: str | PathLike[str] | None = None) -> Verification:
    """Check a converted or trained file, a published folder, or a folder of either.

    Failed checks are returned, not raised.

    Args:
        path: the file or folder.
        key: public key that published folders must be signed with.

    Raises:
        VerificationError: if there is nothing to verify.
        StorageError: if the path cannot be read.
        SignatureError: if signatures cannot be checked with this key here.
    """
    path, key = arguments.to_path(path), arguments.optional_path(key)
    if key is not None:
        signature.require_public_key(key)
    checks = CheckList()
    if not folders.is_folder(path):
        disk.require_regular(path)
        if path.suffix != ARTIFACT:
            raise VerificationError(f"{path}: expected a converted {ARTIFACT} file or a folder")
        _check_converted(checks, path, path.name, key)
    elif _is_published(path):
        published_checks.check(checks, path, "", key)
    elif trained_files := _trained_files(path):
        _check_trained(checks, path, trained_files, key)
    else:
        _check_folder(checks, path, key)
    signatures = [result.holds is True for result in checks.results if result.what == SIGNED]
    trained = sum(isinstance(manifest, TrainedManifest) for manifest in checks.manifests)
    converted = [manifest for manifest in checks.manifests if isinstance(manifest, Manifest)]
    classifiers = [network is not None and network.classifies_images for network in checks.networks]
    return Verification(
        tuple(checks.results),
        signed=bool(signatures) and all(signatures),
        classifies_images=classifiers == [True],
        converted=trained < len(checks.networks) or not trained,
        trained=trained > 0,
        of_targets=bool(converted) and all(manifest.target for manifest in converted),
    )


def document(path: Path, result: Verification) -> VerificationRecord:
    """Return the JSON document."""
    return VerificationRecord(
        path=str(path),
        holds=result.holds,
        signed=result.signed,
        proves=result.proves,
        does_not_prove=result.does_not_prove,
        checks=[
            VerificationCheck(
                place=check.place,
                what=check.what,
                expected=check.expected,
                found=check.actual,
                holds=check.holds,
            )
            for check in result.checks
        ],
    )


def _is_published(folder: Path) -> bool:
    """Return whether `publish` wrote a folder, even if some of its files are missing now."""
    return not {SUMS, MANIFEST}.isdisjoint(folders.names(folder))


def _trained_files(folder: Path) -> list[str]:
    """Return the names of the trained files in a folder, none if it also has a converted file."""
    manifests = []
    for name in folders.names(folder):
        if name.endswith(artifact_checks.MANIFEST):
            with contextlib.suppress(ArtifactError, StorageError):  # another kind of file
                manifests.append(schema.read_any(folder / name)[0])
    if not all(isinstance(manifest, TrainedManifest) for manifest in manifests):
        return []
    return sorted(manifest.artifact.file for manifest in manifests)


def _is_ours(name: str, tree: Folder) -> bool:
    """Return whether weights have a manifest, or the name of a converted file whose manifest is missing."""
    path = PurePosixPath(name)
    return str(path.with_suffix(artifact_checks.MANIFEST)) in tree.files or artifact.has_hash(path.name)


def _not_published(folder: Path, weights: int) -> VerificationError:
    """Return the error for a folder with weights that were neither converted nor published by us."""
    return VerificationError(
        f"{folder}: not a published folder, and not a folder of converted files\n"
        f"  published   needs {SUMS} and {MANIFEST}, which are not there\n"
        f"  converted   needs a manifest next to each {ARTIFACT} file; none of {weights} has one\n"
        f"  try         gluon2torch inspect {shlex.quote(str(folder))}"
    )


def _check_folder(checks: CheckList, folder: Path, key: Path | None) -> None:
    """Check a folder of converted files or of published folders."""
    paths = [folder / name for name in folders.names(folder)]
    folders_inside = [
        path for path in paths if path.is_dir() and not path.is_symlink() and not is_left_over(path.name)
    ]
    published = [path for path in folders_inside if _is_published(path)]
    tree = folders.read(folder, tuple(path.name for path in published))
    artifacts = [name for name in tree.files if name.endswith(ARTIFACT) and not is_left_over(name)]
    if not artifacts and not published:
        raise VerificationError(f"{folder}: contains neither a converted file nor a published folder")
    if not published and not any(_is_ours(name, tree) for name in artifacts):
        raise _not_published(folder, len(artifacts))
    _check_files(checks, tree, {name: tree.files[name] for name in artifacts}, key)
    for path in published:
        published_checks.check(checks, path, f"{path.name}/", key)


def _check_trained(checks: CheckList, folder: Path, trained: list[str], key: Path | None) -> None:
    """Check the folder of a training run: its weights, and none of its checkpoints."""
    inside = tuple(name for name in folders.names(folder) if (folder / name).is_dir())
    tree = folders.read(folder, inside)
    _check_files(checks, tree, {name: folder / name for name in trained}, key)
    for name in inside:
        checks.unchecked(name, "folder", "does not belong to the trained file")


def _check_files(checks: CheckList, tree: Folder, artifacts: dict[str, Path], key: Path | None) -> None:
    """Check the artifacts in a folder, by name, and record the files that belong to none."""
    published_checks.check_entries(checks, tree, "")
    names: set[str] = set()
    for name, path in artifacts.items():
        names |= _check_converted(checks, path, name, key)
    for name in sorted(tree.files.keys() - names):
        if not is_left_over(name):  # already reported
            _check_unrelated(checks, tree.files[name], name)


def _check_labels(checks: CheckList, path: Path, manifest: TrainedManifest) -> None:
    """Check that the list of classes next to trained weights is that in the manifest, if it has one."""
    if manifest.labels is None:
        checks.unchecked(path.name, "class names", "not in the manifest")
        return
    names = checks.tried(
        path.name,
        "class names",
        "a list of the classes",
        lambda: label_files.read(path, manifest.training.classes),
        quiet=True,
    )
    if names is not None:
        checks.equal(
            path.name,
            "class names",
            class_names(manifest.labels),
            class_names(names),
        )


def _check_unrelated(checks: CheckList, path: Path, name: str) -> None:
    """Record a file that belongs to no artifact; a manifest fails, as its artifact is missing."""
    with contextlib.suppress(ArtifactError, StorageError):  # not a manifest
        if path.suffix == artifact_checks.MANIFEST:
            checks.wrong(name, "artifact", schema.read_any(path)[0].artifact.file, NOTHING)
            return
    checks.unchecked(name, "file", "does not belong to a converted file")


def _check_converted(checks: CheckList, path: Path, name: str, key: Path | None) -> set[str]:
    """Check a converted file against its manifest; return the names of all files that belong to it."""
    manifest_path = path.with_suffix(artifact_checks.MANIFEST)
    names = {path.name, manifest_path.name}
    converted = artifact_checks.check(checks, path, name)
    checks.networks.append(converted.model if converted else None)
    with contextlib.suppress(ArtifactError, StorageError):  # already recorded
        manifest = converted.manifest if converted else schema.read_any(manifest_path)[0]
        module = converted_file.generated_module(manifest)
        names |= {part.file for part in (manifest.artifact.pth, module) if part}
        label_file = path.with_name(LABELS)
        if isinstance(manifest, TrainedManifest) and label_file.is_file():
            names.add(LABELS)
            _check_labels(checks, label_file, manifest)
        for export in manifest.artifact.exports:
            names |= {export.file, *([export.data.file] if export.data else [])}
    if key is not None:
        checks.wrong(name, SIGNED, f"a signature by {key}", f"{NOTHING}; only published folders are signed")
    return {(PurePosixPath(name).parent / each).as_posix() for each in names}
