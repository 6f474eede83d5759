"""Find the weights of a converted graph in a checkpoint, by the manifests in its folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ArtifactError, CheckpointError, MappingError, StorageError
from converter.formats import checkpoint
from converter.formats.state_dicts import Location, NetworkNames
from converter.manifests import schema, target_weights
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from converter.formats.checkpoint import Checkpoint
    from converter.formats.file_arrays import Arrays
    from converter.manifests.schema import Manifest
    from converter.manifests.target_records import TargetRecord

MAX_LINES = 8  # of an error
COUNTER, STATISTIC = "num_batches_tracked", "running_mean"  # of a BatchNorm in PyTorch


@dataclass(frozen=True, slots=True)
class ConvertedWeights:
    """The weights of a converted graph, for a generated or an existing module.

    Attributes:
        manifest: the manifest of the conversion.
        arrays: the arrays by the names in the manifest.
        location: where they are in the checkpoint.
        converted: whether the checkpoint is the converted file itself; otherwise it was trained further.
    """

    manifest: Manifest
    arrays: Arrays
    location: Location
    converted: bool

    @property
    def target(self) -> TargetRecord | None:
        """The existing module that the weights are for, None if the module was generated."""
        return self.manifest.target

    @property
    def module(self) -> str:
        """The module that the weights are for."""
        if self.target is not None:
            return self.target.name
        return f"{self.manifest.model}.py, generated from {self.manifest.source.symbol}"

    def describe(self, path: Path) -> str:
        """Return what the file is, and the statements that load it or build its module."""
        if self.target is not None:
            return f"weights for {self.module}: {target_weights.description(self.target, str(path))}"
        name = self.manifest.model
        return f"weights of {self.module}: import {name}; {name}.load({str(path)!r})"


def find(path: Path, key: str | None = None, symbol_sha256: str | None = None) -> ConvertedWeights | None:
    """Return the weights in a checkpoint; None if no manifest in its folder has the names of its tensors.

    The manifest that records the file's SHA-256 is preferred. Others are of the weights before training, if
    their module was generated.

    Args:
        path: the checkpoint.
        key: the key of the state dict, None to detect it.
        symbol_sha256: SHA-256 of their graph, None for any.

    Raises:
        CheckpointError: if the tensors are those of several generated modules with different names, or if
            manifests of the file name different modules.
        StorageError: if the file cannot be read.
    """
    manifests = [
        manifest
        for manifest in _manifests(path.parent)
        if symbol_sha256 in {None, manifest.source.symbol_sha256}
    ]
    if not manifests:
        return None
    sha256 = disk.sha256(path)
    own = [manifest for manifest in manifests if sha256 in _hashes(manifest)]
    _require_one_target(path, own)
    chosen = own or [manifest for manifest in manifests if manifest.kind == schema.GENERATED]
    found = [weights for manifest in chosen if (weights := _read(path, key, manifest, bool(own)))]
    if len({weights.manifest.names for weights in found}) > 1:
        files = ", ".join(weights.manifest.artifact.file for weights in found)
        raise CheckpointError(f"{path}: its tensors have the names of several converted files: {files}")
    return found[0] if found else None


def _require_one_target(path: Path, manifests: Sequence[Manifest]) -> None:
    """Check that manifests of the same file name the same existing module, with the same settings.

    Raises:
        CheckpointError: if they do not: nothing says which one is right.
    """
    identities = [manifest.target and manifest.target.identity for manifest in manifests]
    if any(identity != identities[0] for identity in identities):
        modules = [manifest.target.name if manifest.target else manifest.model for manifest in manifests]
        listing = ", ".join(modules)
        raise CheckpointError(
            f"{path}: several manifests in its folder are of this file, for different modules: {listing}\n"
            "  try  gluon2torch verify on the folder, and remove those that convert did not write"
        )


def _manifests(folder: Path) -> list[Manifest]:
    """Return the manifests of converted graphs in a folder."""
    manifests = []
    for candidate in sorted(folder.glob("*.json")):
        with contextlib.suppress(ArtifactError, StorageError):  # another kind of file
            manifest, _ = schema.read(candidate)
            manifests += [manifest] if manifest.kind in {schema.GENERATED, schema.EXISTING} else []
    return manifests


def _hashes(manifest: Manifest) -> set[str]:
    """Return the SHA-256 of the weights, and of the same weights as a ``.pth``."""
    artifact = manifest.artifact
    return {artifact.sha256} | ({artifact.pth.sha256} if artifact.pth else set())


def _read(path: Path, key: str | None, manifest: Manifest, converted: bool) -> ConvertedWeights | None:
    """Return the weights, None if the tensors are not those in the manifest."""
    try:
        others = manifest.target.others if manifest.target else ()
        found = read(path, key, [*(each.target for each in manifest.names), *others])
    except (CheckpointError, MappingError):
        if converted:
            raise
        return None
    return ConvertedWeights(manifest, found.arrays, found.location, converted)


def read(path: Path, key: str | None, targets: Collection[str]) -> Checkpoint:
    """Return the arrays of a module in a checkpoint, without PyTorch's counters unless they are named.

    Args:
        path: the checkpoint.
        key: the key of the state dict, None to detect it.
        targets: the names of the tensors.

    Raises:
        CheckpointError: if it cannot be read, or if it contains no such state dict or several.
        MappingError: if tensors are missing or unknown.
    """
    counters = frozenset(
        f"{name.removesuffix(STATISTIC)}{COUNTER}" for name in targets if name.endswith(STATISTIC)
    )
    found = checkpoint.load(path, key, [NetworkNames(frozenset(targets), counters)])
    missing = [name for name in targets if name not in found.arrays]
    unknown = sorted(found.arrays.keys() - {*targets, *counters})
    if lines := names.differences(missing, unknown):
        headline = f"{path}: its tensors are not those of the module"
        raise MappingError("\n  ".join([headline, *names.shorten(lines, MAX_LINES)]))
    return replace(found, arrays={name: found.arrays[name] for name in targets})
