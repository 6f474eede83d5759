"""Compare Gluon parameters with a checkpoint, a module or their own conversion."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import CheckpointError
from converter.formats import array_comparison, checkpoint
from converter.networks import loading, matching
from converter.parity import diagnosis, execution, runner
from converter.parity.checkpoint_comparison import CheckpointComparison, WeightsFile
from converter.parity.runner import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from converter.formats.array_comparison import TensorDiff
    from converter.formats.file_arrays import Arrays
    from converter.networks.loading import LoadedModel, ParamsSource
    from converter.progress import Progress

STEPS = 2


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """Gluon parameters and what to compare them with.

    Attributes:
        origin: the parameters.
        weights: checkpoint to compare with.
        module: module to compare with; without it and ``weights``, the parameters' own conversion is
            compared.
        terms: how to compare.
    """

    origin: ParamsSource
    weights: Path | None = None
    module: nn.Module | None = None
    terms: ParityOptions = ParityOptions()


def compare(request: ComparisonRequest, progress: Progress = silent) -> CheckpointComparison:
    """Compare tensor by tensor and layer by layer; differences are returned, not raised.

    Raises:
        ConversionError: if nothing can be compared: a file is unreadable, names or shapes are of another
            model, or no reference can run.
    """
    terms = runner.resolve_reference(request.terms)
    with loading.open_source(request.origin, progress) as source, contextlib.ExitStack() as stack:
        prepared = loading.load_model(request.origin, source)
        if request.weights is not None:
            stack.enter_context(disk.unchanged(request.weights, CheckpointError))
        candidates = stack.enter_context(runner.start_references(terms, prepared))
        progress("comparing", 0, STEPS)
        module, state = _other_side(request, prepared)
        tensor_diffs = tuple(_tensor_diffs(prepared, state))
        progress("comparing", 1, STEPS)
        proof = runner.prove(candidates, execution.hook_layers(module, prepared.mapping), prepared)
        progress("comparing", STEPS, STEPS)
        suspicion = diagnosis.diagnose(proof, prepared, state)
        weights = _weights_file(request.weights) if request.weights else None
        params_file.verify_published_sha1(source, prepared.model.published)
    other_name = weights.file if weights else "the module" if request.module is not None else "the conversion"
    return CheckpointComparison(prepared, other_name, weights, proof, tensor_diffs, suspicion)


def _other_side(request: ComparisonRequest, prepared: LoadedModel) -> tuple[nn.Module, Arrays]:
    """Return the module to compare with, and its arrays."""
    if request.module is not None:
        module = copy.deepcopy(request.module)  # the comparison changes its precision
        return module, _complete_state(prepared, execution.arrays(request.module), "the module")
    state = prepared.state
    if request.weights is not None:
        state = _complete_state(prepared, checkpoint.read(request.weights), str(request.weights))
    return execution.build(state, prepared.model.config), state


def _complete_state(prepared: LoadedModel, arrays: Arrays, name: str) -> Arrays:
    target = prepared.mapping.to_target()
    if arrays.keys() == target.keys():  # Gluon names
        arrays = {target[source]: array for source, array in arrays.items()}
    return matching.complete(prepared.mapping, arrays, prepared.model.shapes, name)


def _tensor_diffs(prepared: LoadedModel, state: Arrays) -> Iterator[TensorDiff]:
    for tensor in prepared.mapping.tensors:
        diff = array_comparison.compare(tensor.target, prepared.params[tensor.source], state[tensor.target])
        if diff is not None and diff.count != 0:  # equal values in another precision match
            yield diff


def _weights_file(path: Path) -> WeightsFile:
    return WeightsFile(disk.file_name(path), disk.sha256(path, CheckpointError))
