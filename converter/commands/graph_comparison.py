"""Compare a graph with a checkpoint, a module or its own conversion."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.commands import graph_loading, module_check
from converter.commands.arguments import optional_path, optional_weights, require_one_side, to_text
from converter.errors import MappingError
from converter.formats import array_comparison
from converter.formats.detect import GRAPH_SUFFIX
from converter.formats.state_dicts import TOP_LEVEL
from converter.graphs.codegen.module_name import module_name
from converter.manifests import converted_weights, target_weights
from converter.networks import graph_source
from converter.parity import execution, generated_network, runner
from converter.parity.checkpoint_comparison import WeightsFile
from converter.parity.graph_report import GraphComparison
from converter.parity.options import ParityOptions
from converter.parity.run_comparison import GeneratedSide
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from torch import nn

    from converter.commands.graph_loading import LoadedGraph
    from converter.formats.array_comparison import TensorDiff
    from converter.formats.file_arrays import Arrays
    from converter.formats.state_dicts import Location
    from converter.graphs.graph import Graph
    from converter.manifests.schema import Manifest
    from converter.networks.graph_source import GraphSource
    from converter.parity.run_comparison import Network
    from converter.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _OtherSide:
    """What a graph is compared with.

    Attributes:
        name: its name in the result.
        state: its arrays by the names of the generated module.
        network: returns it in a precision.
        location: where the arrays are in a checkpoint.
    """

    name: str
    state: Arrays
    network: Network
    location: Location = TOP_LEVEL


def compare_graph(  # noqa: PLR0913 - the options of the command
    graph: str | PathLike[str],
    *,
    params: str | PathLike[str] | None = None,
    random: int | None = None,
    epoch: int | None = None,
    output: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: str | PathLike[str] | None = None,
    key: str | None = None,
    module: nn.Module | None = None,
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> GraphComparison:
    """Compare a graph with a checkpoint or a module, tensor by tensor and output by output.

    Differences are returned, not raised.

    Args:
        graph: the ``-symbol.json``, MXNet's prefix of it, a folder, an archive with the parameters, or
            GluonCV's name of a network whose graph is recorded.
        params: its ``.params`` file; by default those that ``graph`` names.
        random: seed of random parameters of a recorded graph, instead of a file.
        epoch: the epoch in the name of the parameters, if there are several.
        output: the name of a node; the network then ends in it. By default, as the manifest of ``weights``
            records it.
        input_shapes: the shapes of inputs, by name; by default, as the manifest of ``weights`` records them.
            The others are derived from the graph.
        weights: ``.safetensors`` or ``.pth`` file with the names of the generated module, or a folder that
            contains one. Without ``weights`` and ``module``, the conversion of the graph is compared.
        key: key of the state dict in a ``.pth``, with dots between nested keys.
        module: a module with the layers and tensors of the generated one.
        options: how to compare.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the arguments contradict each other, or if the shape of an input is unknown.
        ConversionError: if nothing can be compared.
    """
    require_one_side(weights, module, key)
    plan = runner.require_reference(options)
    path = optional_weights(weights)
    with disk.temp_dir() as unpacked, disk.unchanged(path) if path else contextlib.nullcontext():
        place, selected = to_text(graph), optional_path(params)
        source = graph_source.open_source(place, selected, epoch, unpacked, progress, seed=random)
        recorded = _recorded(path, key, source.graph)
        end = recorded.source.graph.output if recorded and recorded.source.graph else None
        output = end if output is None else output
        if recorded and input_shapes is None and not options.sizes:
            input_shapes = recorded.input_shapes
        if not options.sizes:
            input_shapes = input_shapes or source.input_shapes
        loaded = _load(source, output)
        if recorded and path:
            converted = loaded if output == end else _load(source, end)
            module_check.require_generated(converted, recorded, path)
        runs = graph_loading.runs(loaded.converted, options, input_shapes)
        other = _other_side(loaded, path, key, module)
        tensors = tuple(_tensor_diffs(loaded, other.state))
        side = GeneratedSide(loaded.converted, other.network)
        proof, reference = graph_loading.compare(loaded.converted, runs, plan, side, progress)
        params_file.require_unchanged(source.params)
        return GraphComparison(
            name=module_name(source.graph.name, (GRAPH_SUFFIX, ".json")),
            graph=source.graph,
            file=source.params,
            converted=loaded.converted,
            target_name=other.name,
            weights=WeightsFile(disk.file_name(path), disk.sha256(path), other.location) if path else None,
            tensors=tensors,
            proof=proof,
            reference=reference,
            runs=runs,
        )


def _load(source: GraphSource, output: str | None) -> LoadedGraph:
    return graph_loading.load(graph_loading.prepare(source.graph, output), source.params, source.recorded)


def _recorded(weights: Path | None, key: str | None, graph: Graph) -> Manifest | None:
    """Return the manifest of weights that were converted from a graph.

    Raises:
        ArtifactError: if they are for an existing module.
    """
    if weights is None:
        return None
    found = converted_weights.find(weights, key, hashlib.sha256(graph.content).hexdigest())
    if found is None:
        return None
    target_weights.refuse(weights, found.target)
    return found.manifest


def _other_side(
    loaded: LoadedGraph, weights: Path | None, key: str | None, module: nn.Module | None
) -> _OtherSide:
    generated = loaded.converted.module
    if module is not None:
        return _of_module(loaded, module)
    if weights is None:
        state = dict(generated_network.state_arrays(generated, loaded.arrays))
        return _OtherSide(
            name="the conversion",
            state=state,
            network=lambda dtype: generated_network.load(generated, loaded.converted.parameters, dtype),
        )
    found = converted_weights.read(weights, key, [*generated.tensors.values()])
    return _OtherSide(
        name=disk.file_name(weights),
        state=found.arrays,
        network=lambda dtype: generated_network.stream(generated, found.arrays, dtype),
        location=found.location,
    )


def _of_module(loaded: LoadedGraph, module: nn.Module) -> _OtherSide:
    """Return a module to compare with.

    Raises:
        MappingError: if it lacks a layer or a tensor of the generated one.
    """
    generated = loaded.converted.module
    arrays = execution.arrays(module)
    layers = {name for name, _ in module.named_modules()}
    missing = [name for name in generated.tensors.values() if name not in arrays]
    missing += [name for name in dict.fromkeys(generated.layers.values()) if name not in layers]
    if missing:
        raise MappingError(f"the module has no {missing[0]}, which the generated one has")

    def network(dtype: str) -> nn.Module:
        import torch  # noqa: PLC0415 - when a network runs and not before

        return copy.deepcopy(module).to(getattr(torch, dtype)).eval()

    state = {name: arrays[name] for name in generated.tensors.values()}
    return _OtherSide(name="the module", state=state, network=network)


def _tensor_diffs(loaded: LoadedGraph, state: Arrays) -> Iterator[TensorDiff]:
    """Compare the tensors; gammas that the graph fixes are ones, whatever the file contains."""
    for name, array in generated_network.state_arrays(loaded.converted.module, loaded.arrays):
        diff = array_comparison.compare(name, array, state[name])
        if diff is not None and diff.count != 0:  # equal values in another precision match
            yield diff
