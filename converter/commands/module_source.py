"""Find the source of a generated module that is safe to run.

A manifest and the module next to it may come from anyone, and both can be forged. The module is therefore
made from the graph, if the graph is at hand or recorded. Otherwise the file is run only if its text is as
safe as what we generate: see ``converter.graphs.codegen.safe_source``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from converter import __version__
from converter.commands import graph_loading
from converter.commands.graph_parameters import variable
from converter.errors import ArtifactError
from converter.graphs import codegen, reader
from converter.graphs.codegen import safe_source
from converter.graphs.codegen.safe_source import UnsafeSourceError
from converter.networks import recorded_graphs, recorded_index, recorded_parameters
from converter.storage import disk

if TYPE_CHECKING:
    from converter.graphs.graph import Graph
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.manifests.source_records import SourceRecord

MAX_BYTES = 1 << 26  # 64 MiB; the modules of GluonCV's largest networks have 300 KB
MAX_CHARACTERS = 100  # of a reason


def read(path: Path, weights: ConvertedWeights, symbol: Path | None = None) -> str:
    """Return the source of the module of weights.

    Args:
        path: the file of the weights.
        weights: its content.
        symbol: the graph; by default the one that the manifest records, if it is in the same folder or is
            GluonCV's.

    Raises:
        ArtifactError: if the module is missing, is not the one in the manifest, or contains something that
            we do not generate.
        MappingError: if the weights are not those of GluonCV's network.
        SymbolError: if the graph is another one.
        StorageError: if a file cannot be read.
    """
    source = weights.manifest.source
    if _is_recorded(source):
        return _of_network(path, weights, symbol)
    file = path.parent / PurePath(str(source.symbol)).name
    graph = symbol or (file if file.is_file() else None)
    if graph is None:
        return _checked(path, weights)
    targets = {variable(names.source): names.target for names in weights.manifest.names}
    return _generated(path, weights, reader.read(graph), targets)


def _is_recorded(source: SourceRecord) -> bool:
    """Return whether the whole graph of a network was converted, and this version has it."""
    is_whole = source.graph is None or source.graph.output is None
    return is_whole and source.network in recorded_index.index()


def _of_network(path: Path, weights: ConvertedWeights, symbol: Path | None) -> str:
    """Return the module that the recorded graph of a network gives, or a copy of that graph in a file."""
    manifest = weights.manifest
    arrays = {names.source: weights.arrays[names.target] for names in manifest.names}
    matched = recorded_parameters.match(recorded_graphs.load(str(manifest.source.network)), arrays, str(path))
    targets = {matched.variables[names.source]: names.target for names in manifest.names}
    return _generated(path, weights, reader.read(symbol) if symbol else matched.network.graph, targets)


def _generated(path: Path, weights: ConvertedWeights, original: Graph, targets: dict[str, str]) -> str:
    """Return the module that a graph gives.

    Args:
        path: the file of the weights.
        weights: its content.
        original: the graph.
        targets: the tensor of each variable.
    """
    source = weights.manifest.source
    opened = graph_loading.prepare_recorded(original, source)
    shapes = {name: tuple(weights.arrays[target].shape) for name, target in targets.items()}
    module = codegen.generate(opened.pruned.graph, shapes, str(source.symbol))
    if module.tensors != targets:
        raise ArtifactError(
            f"{path}: its tensors have other names than this version gives the graph\n"
            "  try         convert the graph again"
        )
    return module.source


def _checked(path: Path, weights: ConvertedWeights) -> str:
    """Return the module next to the weights, if it is safe."""
    record = weights.manifest.module
    if record is None:  # not with kind "generated": see ``schema.read_any``
        raise ArtifactError(f"{path}: its manifest names no module")
    file = path.with_name(record.file)
    if not file.exists():
        raise ArtifactError(
            f"{file}: missing: this file defines the network\n  try         {_next_step(weights)}"
        )
    content = disk.read_small(file, MAX_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != record.sha256:
        raise ArtifactError(
            f"{file}: not the module in the manifest of {path.name}\n"
            f"  expected    SHA-256 {record.sha256}\n"
            f"  found       {found}\n"
            f"  try         {_next_step(weights)}"
        )
    try:
        source = content.decode("ascii")
        safe_source.require_safe(source)
    except (UnicodeDecodeError, UnsafeSourceError) as error:
        raise ArtifactError(
            f"{file}: not run, because it contains code that gluon2torch {__version__} does not generate\n"
            f"  found       {str(error).splitlines()[0][:MAX_CHARACTERS]}\n"
            f"  written by  gluon2torch {weights.manifest.version}\n"
            f"  try         {_next_step(weights)}"
        ) from error
    return source


def _next_step(weights: ConvertedWeights) -> str:
    """Return how to get the network without the module."""
    if network := weights.manifest.source.network:
        return f"convert {network} OUT, which writes the module again"
    return "--symbol GRAPH, the graph that was converted"
