"""Convert the weights of a generated module back to the ``.params`` file that its graph takes."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from converter.commands import graph_loading, module_check
from converter.errors import ArtifactError, PrecisionError, SymbolError
from converter.formats import precision
from converter.formats.params import open_params
from converter.graphs import reader
from converter.manifests import graph_builder
from converter.networks import recorded_graphs, recorded_parameters
from converter.parity import runner
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.choices import Precision
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.manifests.schema import Manifest, ParityRecord
    from converter.parity.options import ParityOptions
    from converter.sources.params_file import ParamsFile


def params(weights: ConvertedWeights, file: str, dtype: Precision) -> Arrays:
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
    with disk.temp_dir() as folder:
        file = params_file.from_file(written, folder, silent)
        loaded = _load(weights, manifest, symbol, file)
        variables = loaded.source.variables
        recorded = {variables.get(names.source): names.target for names in manifest.names}
        if recorded != loaded.converted.module.tensors:
            raise ArtifactError(f"{weights}: its manifest has other names than this version gives the graph")
        module_check.require_generated(loaded, manifest, weights)
        shapes = None if options.sizes else manifest.input_shapes
        runs = graph_loading.runs(loaded.converted, options, shapes)
        return graph_loading.prove(loaded.converted, plan, runs, silent).record


def _load(
    weights: Path, manifest: Manifest, symbol: Path | None, file: ParamsFile
) -> graph_loading.LoadedGraph:
    """Return the graph that a manifest records, with the parameters in a file.

    Raises:
        CatalogError: if its network is not recorded in this version.
        SymbolError: if it is missing or is another one.
    """
    source = manifest.source
    if source.network is None or symbol is not None:
        graph = _read(weights, manifest, symbol)
        return graph_loading.load(graph_loading.prepare_recorded(graph, source), file)
    arrays = open_params(file.path, name=str(file.user_path)).arrays
    network = recorded_graphs.load(source.network)
    recorded = recorded_parameters.match(network, arrays, str(file.user_path))
    graph = recorded.network.graph
    return graph_loading.load(graph_loading.prepare_recorded(graph, source), file, recorded)


def _read(weights: Path, manifest: Manifest, symbol: Path | None) -> Graph:
    """Read the graph next to weights.

    Raises:
        SymbolError: if it is missing.
    """
    source = manifest.source
    path = symbol or weights.parent / PurePath(str(source.symbol)).name
    if not path.exists():
        raise SymbolError(
            f"{path}: missing; the proof runs the graph\n"
            "  try  --symbol GRAPH, or --reference none, which writes the file without a proof"
        )
    return reader.read(path)
