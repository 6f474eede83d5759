"""Convert the weights of a generated module back to the ``.params`` file that its graph takes."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import TYPE_CHECKING

from converter.commands import graph_loading, graph_parameters, module_check
from converter.errors import ArtifactError, PrecisionError, SymbolError
from converter.formats import precision
from converter.graphs import reader
from converter.manifests import graph_builder
from converter.parity import runner
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.choices import Precision
    from converter.formats.file_arrays import Arrays
    from converter.manifests.generated_weights import GeneratedWeights
    from converter.manifests.schema import Manifest, ParityRecord
    from converter.parity.options import ParityOptions


def params(weights: GeneratedWeights, file: str, dtype: Precision) -> Arrays:
    """Return the arrays by their names in the ``.params`` file, in its order.

    Raises:
        PrecisionError: if they do not fit the type without rounding.
    """
    arrays = {names.source: weights.arrays[names.target] for names in weights.manifest.names}
    cast = precision.cast(arrays, dtype)
    if not precision.lossless(arrays, cast):
        raise PrecisionError(f"{file}: these weights do not fit {dtype} without rounding")
    return cast


def prove(
    written: Path, weights: Path, manifest: Manifest, symbol: Path | None, options: ParityOptions
) -> ParityRecord:
    """Run the graph with the written file and the generated module, and compare them.

    Args:
        written: the written ``.params`` file, whose arrays are those of the weights.
        weights: the checkpoint.
        manifest: the manifest of the module.
        symbol: the graph, None for the one that the manifest records, next to the checkpoint.
        options: how to prove.

    Raises:
        SymbolError: if the graph is missing or is another one.
        ArtifactError: if the manifest, or the module next to the weights, is not of that graph.
        ParityError: if they differ.
    """
    plan = runner.resolve_reference(options)
    if plan is None:
        return graph_builder.UNPROVEN
    graph = _graph(weights, manifest, symbol)
    with disk.temp_dir() as folder:
        loaded = graph_loading.load(graph, params_file.from_file(written, folder, silent))
        recorded = {graph_parameters.variable(names.source): names.target for names in manifest.names}
        if recorded != loaded.converted.module.tensors:
            raise ArtifactError(f"{weights}: its manifest has other names than this version gives the graph")
        module_check.require_generated(loaded, manifest, weights)
        shapes = None if options.sizes else manifest.input_shapes
        runs = graph_loading.runs(loaded.converted, options, shapes)
        return graph_loading.prove(loaded.converted, plan, runs, silent).record


def _graph(weights: Path, manifest: Manifest, symbol: Path | None) -> graph_loading.OpenedGraph:
    """Return the graph that a manifest records.

    Raises:
        SymbolError: if it is missing or is another one.
    """
    source = manifest.source
    path = symbol or weights.parent / PurePath(str(source.symbol)).name
    if not path.exists():
        raise SymbolError(
            f"{path}: missing; the proof runs the graph\n"
            "  try  --symbol GRAPH, or --reference none, which writes the file without a proof"
        )
    opened = graph_loading.prepare(reader.read(path), source.graph.output if source.graph else None)
    found = hashlib.sha256(opened.original.content).hexdigest()
    if found != source.symbol_sha256:
        raise SymbolError(f"{path}: another graph: expected SHA-256 {source.symbol_sha256}, found {found}")
    return opened
