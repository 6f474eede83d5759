"""Checks that the module next to weights is the one that their graph gives: no proof runs the file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from converter import __version__
from converter.errors import ArtifactError
from converter.graphs import codegen
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.commands.graph_loading import LoadedGraph
    from converter.manifests.schema import Manifest


def require_generated(loaded: LoadedGraph, manifest: Manifest, weights: Path) -> None:
    """Check that a manifest, and the module in the folder of the weights, are of the module of a graph.

    The module of an earlier version may differ. It is refused, too, because no proof runs it.

    Args:
        loaded: the graph that the manifest records, with parameters.
        manifest: the manifest of the weights.
        weights: their file.

    Raises:
        ArtifactError: if they are of another module.
        StorageError: if the module cannot be read.
    """
    if manifest.module is None:
        return
    generated = _sha256(loaded, manifest)
    if manifest.module.sha256 != generated:
        raise ArtifactError(
            f"{weights}: its manifest is of another module than the graph gives\n"
            f"  written by  gluon2torch {manifest.version}, this is {__version__}\n"
            "  try         convert the graph again"
        )
    file = weights.with_name(manifest.module.file)
    if file.exists() and disk.sha256(file) != generated:
        raise ArtifactError(
            f"{file}: not the module that was generated from the graph, and no proof runs it\n"
            "  try  the weights in a folder without it"
        )


def _sha256(loaded: LoadedGraph, manifest: Manifest) -> str:
    """Return the SHA-256 of the source that the graph gives under its recorded name."""
    converted, module = loaded.converted, loaded.converted.module
    if manifest.source.symbol not in {None, converted.whole.name}:
        shapes = {name: tuple(array.shape) for name, array in loaded.arrays.items()}
        module = codegen.generate(converted.pruned.graph, shapes, manifest.source.symbol)
    return hashlib.sha256(module.source.encode()).hexdigest()
