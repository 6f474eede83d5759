"""Compare Gluon parameters with a checkpoint, a module or their own conversion."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from converter.commands import graph_comparison
from converter.commands.arguments import optional_path, optional_weights, require_one_side, to_text
from converter.errors import UsageError
from converter.formats import array_comparison
from converter.formats.state_dicts import TOP_LEVEL
from converter.manifests import converted_file
from converter.networks import catalog, graph_argument, loading, matching, selection, state_dicts
from converter.parity import diagnosis, execution, graph_report, json_report, runner
from converter.parity.checkpoint_comparison import CheckpointComparison, WeightsFile
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike
    from pathlib import Path

    from torch import nn

    from converter.formats.array_comparison import TensorDiff
    from converter.formats.file_arrays import Arrays
    from converter.formats.state_dicts import Location
    from converter.networks.loading import LoadedModel
    from converter.networks.selection import ParamsSource
    from converter.parity.json_report import Document
    from converter.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRequest:
    """Gluon parameters and what to compare them with.

    Attributes:
        source: the parameters.
        weights: checkpoint to compare with.
        key: key of the state dict in the checkpoint, None to detect it.
        module: module to compare with; without it and ``weights``, the parameters' own conversion is
            compared.
        options: how to compare.
    """

    source: ParamsSource
    weights: Path | None = None
    key: str | None = None
    module: nn.Module | None = None
    options: ParityOptions = ParityOptions()


def check(  # noqa: PLR0913 - the options of the command
    name: str | PathLike[str],
    *,
    params: str | PathLike[str] | None = None,
    random: int | None = None,
    weights: str | PathLike[str] | None = None,
    key: str | None = None,
    module: nn.Module | None = None,
    model_options: Mapping[str, Any] = MappingProxyType({}),
    graph_options: Mapping[str, Any] = MappingProxyType({}),
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> Document:
    """Compare a model or a graph with a checkpoint or a module; return the result's document.

    Args:
        name: the model, or a graph as in ``compare_graph``.
        params: parameters.
        random: seed of random parameters instead.
        weights: a checkpoint, as in ``compare`` and ``compare_graph``.
        key: its key, as there.
        module: a module to compare with instead, as there.
        model_options: other arguments of ``compare``; None is not given.
        graph_options: other arguments of ``compare_graph``, likewise.
        options: how to compare.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the arguments contradict each other, or do not apply to a model or a graph.
        ConversionError: if nothing can be compared.
    """
    common: dict[str, Any] = {"params": params, "weights": weights, "key": key, "module": module}
    common |= {"options": options, "progress": progress}
    given = [
        {key: value for key, value in each.items() if value is not None}
        for each in (model_options, graph_options)
    ]
    of_model, of_graph = given
    common |= {"random": random}
    if graph_argument.is_meant(to_text(name), has_params=(params, random) != (None, None)):
        _require_none(of_model, "a model")
        return graph_report.build(graph_comparison.compare_graph(name, **common, **of_graph))
    _require_none(of_graph, "a graph")
    return json_report.build(compare(to_text(name), **common, **of_model))


def _require_none(given: Mapping[str, Any], what: str) -> None:
    for name in given:
        raise UsageError(f"`{name}` requires {what}", name)


def compare(  # noqa: PLR0913 - the options of the command
    model: str,
    *,
    params: str | PathLike[str] | None = None,
    random: int | None = None,
    symbol: str | PathLike[str] | None = None,
    backbone: bool = False,
    output_stride: int | None = None,
    weights: str | PathLike[str] | None = None,
    key: str | None = None,
    module: nn.Module | None = None,
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> CheckpointComparison:
    """Compare Gluon parameters with a checkpoint or a module, tensor by tensor and layer by layer.

    Differences are returned, not raised.

    Args:
        model: the model's name, or "auto" to detect it from the tensors of ``params``.
        params: ``.params`` file, or an archive of one; by default GluonCV's cache, then a download.
        random: seed of random parameters, instead of a file.
        symbol: graph of the parameters; by default it is searched for in their folder or archive.
        backbone: whether to take the network without its head, also out of a larger network.
        output_stride: 8 or 16 for a dilated network; by default that of the graph, else 32.
        weights: ``.safetensors`` or ``.pth`` file, or a folder that contains one. Without ``weights`` and
            ``module``, the output of ``convert`` is compared.
        key: key of the state dict in a ``.pth`` as ``weights``, with dots between nested keys; by default it
            is detected.
        module: any float32 module whose layers have the names of torchvision and timm.
        options: how to compare.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the arguments contradict each other.
        ConversionError: if nothing can be compared: a file is unreadable, names or shapes are of another
            model, or no reference can run.
    """
    require_one_side(weights, module, key)
    request = ComparisonRequest(
        source=selection.select(
            model,
            optional_path(params),
            random,
            optional_path(symbol),
            backbone=backbone,
            output_stride=output_stride,
        ),
        weights=optional_weights(weights),
        key=key,
        module=module,
        options=options,
    )
    return run(request, progress)


def run(request: ComparisonRequest, progress: Progress = silent) -> CheckpointComparison:
    """Run a comparison.

    Raises:
        ConversionError: if nothing can be compared.
    """
    plan = runner.require_reference(request.options)
    selected = _with_recorded_stride(request)
    with selection.open_source(selected, progress) as source, contextlib.ExitStack() as stack:
        loaded = loading.load_model(selected, source)
        if request.weights is not None:
            stack.enter_context(disk.unchanged(request.weights))
        references = stack.enter_context(runner.start_references(plan, loaded, progress))
        module, state, location = _other_side(request, loaded)
        tensor_diffs = tuple(_tensor_diffs(loaded, state, progress))
        proof = runner.prove(references, execution.hook_layers(module, loaded.mapping), loaded, progress)
        suspicion = diagnosis.diagnose(proof, loaded, state)
        weights = _weights_file(request.weights, location) if request.weights else None
        params_file.verify_published_sha1(source, loaded.model.published)
    other_name = weights.file if weights else "the module" if request.module is not None else "the conversion"
    return CheckpointComparison(loaded, other_name, weights, proof, tensor_diffs, suspicion)


def _with_recorded_stride(request: ComparisonRequest) -> ParamsSource:
    """Return the parameters with the model and the output stride in the manifest of the weights, if any.

    Raises:
        UsageError: if another output stride was requested.
    """
    source = request.source
    manifest = converted_file.find_manifest(request.weights) if request.weights else None
    if manifest is None:
        return source
    model = source.model or catalog.find(manifest.model)
    recorded = converted_file.with_recorded_stride(model, manifest).config.output_stride
    if source.output_stride not in {None, recorded}:
        raise UsageError(
            f"`output_stride`: expected {recorded}, as in the manifest of {request.weights}, "
            f"found {source.output_stride}",
            "output_stride",
        )
    return replace(source, model=model, output_stride=recorded)


def _other_side(request: ComparisonRequest, loaded: LoadedModel) -> tuple[nn.Module, Arrays, Location]:
    """Return the module to compare with, its arrays, and their location in the checkpoint."""
    if request.module is not None:
        module = copy.deepcopy(request.module).cpu()  # the comparison changes its precision
        return module, _complete_state(loaded, execution.arrays(request.module), "the module"), TOP_LEVEL
    state, location = loaded.state, TOP_LEVEL
    if request.weights is not None:
        checkpoint = state_dicts.read(request.weights, request.key)
        state, location = (
            _complete_state(loaded, checkpoint.arrays, str(request.weights)),
            checkpoint.location,
        )
    return execution.stream(state, loaded.model.config), state, location


def _complete_state(loaded: LoadedModel, arrays: Arrays, name: str) -> Arrays:
    target = loaded.mapping.to_target()
    if arrays.keys() == target.keys():  # Gluon names
        arrays = {target[source]: array for source, array in arrays.items()}
    return matching.complete(loaded.mapping, arrays, loaded.model.shapes, name)


def _tensor_diffs(loaded: LoadedModel, state: Arrays, progress: Progress) -> Iterator[TensorDiff]:
    tensors = loaded.mapping.tensors
    for done, tensor in enumerate(tensors, start=1):
        progress("comparing", done, len(tensors))
        diff = array_comparison.compare(tensor.target, loaded.params[tensor.source], state[tensor.target])
        if diff is not None and diff.count != 0:  # equal values in another precision match
            yield diff


def _weights_file(path: Path, location: Location) -> WeightsFile:
    return WeightsFile(disk.file_name(path), disk.sha256(path), location)
