"""Check a published folder: its files, their sums, the weights, the configuration and the signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converter import __version__
from converter.errors import StorageError
from converter.manifests import artifact_checks, converted_file, schema
from converter.publishing import configuration, published_files, signature, sums
from converter.publishing.published_files import ALWAYS, CARD, CONFIG, MANIFEST, REPORT, WEIGHTS
from converter.publishing.signature import HUB_FILES, SIGNATURE
from converter.publishing.sums import SUMS
from converter.storage import disk, folders, locks

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.checks import CheckList
    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model
    from converter.storage.folders import Folder

PRESENT, NOTHING = "present", "nothing"
OURS = "as written by publish"
SIGNED = "signature"


class _Config(msgspec.Struct, frozen=True):
    """The fields of a folder's config.json that are checked; its sum covers the rest."""

    num_classes: int | None = None
    label_names: tuple[str, ...] | None = None


def check(checks: CheckList, folder: Path, prefix: str, key: Path | None) -> None:
    """Check that a published folder has exactly the listed files, and that they agree."""
    tree = folders.read(folder, HUB_FILES)
    check_entries(checks, tree, prefix)
    _check_sums(checks, folder, tree, prefix)
    weights, manifest_path, config = (tree.files.get(name) for name in (WEIGHTS, MANIFEST, CONFIG))
    if (
        weights
        and manifest_path
        and (result := artifact_checks.check_manifest(checks, manifest_path, prefix + MANIFEST))
    ):
        manifest, _ = result
        found = artifact_checks.check_weights(checks, weights, prefix + WEIGHTS, manifest)
        if module := converted_file.generated_module(manifest):
            artifact_checks.check_module(checks, folder / module.file, module)
        checks.networks.append(found.model if found else None)
        if found and config:
            _check_config(checks, config, prefix + CONFIG, found.model, manifest)
    if key is not None:
        checks.tried(
            prefix + SIGNATURE,
            SIGNED,
            f"a signature of these files by {key}",
            lambda: signature.check(folder, key),
        )
    elif SIGNATURE in tree.files:
        checks.unchecked(prefix + SIGNATURE, SIGNED, "present; --key checks it")


def check_entries(checks: CheckList, tree: Folder, prefix: str) -> None:
    """Check that a folder has no other entries than files, and none of an unfinished run."""
    for name, reason in tree.refused.items():
        checks.wrong(prefix + name, "kind", "a regular file or folder", reason)
    for name in tree.files:
        if is_left_over(name):
            checks.wrong(
                prefix + name, "file", NOTHING, "a temporary file of an interrupted or running process"
            )
    for name in tree.excluded:
        if name in HUB_FILES:
            checks.unchecked(prefix + name, "file", "written by the hub, not loaded")


def _check_sums(checks: CheckList, folder: Path, tree: Folder, prefix: str) -> None:
    digests = checks.tried(
        prefix + SUMS, "form", "a SHA-256 and a name on every line", lambda: sums.read(folder)
    )
    for name in sorted({*(digests or {}), *tree.files, *ALWAYS} - {SUMS, SIGNATURE}):
        digest = (digests or {}).get(name)
        if name not in tree.files:
            checks.wrong(prefix + name, "file", PRESENT, NOTHING)
        elif digest is None:
            checks.wrong(prefix + name, "sum", f"a line in {SUMS}", NOTHING)
        else:
            checks.equal(prefix + name, "sum", digest, _digest(tree.files[name]))
            if name in {CARD, REPORT}:
                checks.unchecked(prefix + name, "contents", "documentation")
            elif name not in {*ALWAYS, *published_files.module_names(folder)}:
                checks.unchecked(prefix + name, "contents", "not written by publish")


def _digest(path: Path) -> str:
    try:
        return disk.sha256(path)
    except StorageError as error:
        return str(error)


def _check_config(
    checks: CheckList, path: Path, name: str, model: Model | None, manifest: AnyManifest
) -> None:
    try:
        content = disk.read_small(path, schema.MAX_BYTES)
        config = msgspec.json.decode(content, type=_Config)
    except (StorageError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        checks.wrong(name, "form", "a configuration as JSON", str(error))
        return
    if model is not None:
        checks.equal(name, "classes", str(model.config.num_classes), str(config.num_classes))
        checks.equal(name, "class names", class_names(manifest.labels), class_names(config.label_names))
    same = msgspec.json.decode(content) == configuration.document(manifest, model)
    if same or manifest.version == __version__:
        checks.equal(name, "configuration", OURS, OURS if same else "different")
    else:
        checks.unchecked(name, "configuration", f"{artifact_checks.of_version(manifest)}, and different")


def class_names(labels: tuple[str, ...] | None) -> str:
    """Return class names as text."""
    return ", ".join(labels) if labels else NOTHING


def is_left_over(name: str) -> bool:
    """Return whether a file, or a folder that it is in, belongs to an unfinished run."""
    return any(part.startswith(locks.PREFIX) for part in name.split("/"))
