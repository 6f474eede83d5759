"""The road of one parity check: Gluon's parameters beside a checkpoint of anyone's, and what was found."""

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
    """What to compare: Gluon's parameters with a checkpoint, with a module, or with their own conversion."""

    origin: ParamsSource
    weights: Path | None = None
    module: nn.Module | None = None
    terms: ParityOptions = ParityOptions()


def compare(request: ComparisonRequest, progress: Progress = silent) -> CheckpointComparison:
    """Compare tensor by tensor and layer by layer; what differs is found, not raised.

    Errors: ``ConversionError`` where there is nothing to compare: a file that cannot be read, names or shapes
    of another model, no reference that can run.
    """
    terms = runner.resolve_reference(request.terms)
    with loading.open_source(request.origin, progress) as found, contextlib.ExitStack() as stack:
        prepared = loading.load_model(request.origin, found)
        if request.weights is not None:
            stack.enter_context(disk.unchanged(request.weights, CheckpointError))
        candidates = stack.enter_context(runner.start_references(terms, prepared))
        progress("comparing", 0, STEPS)
        module, state = _other_side(request, prepared)
        apart = tuple(_apart(prepared, state))
        progress("comparing", 1, STEPS)
        proof = runner.prove(candidates, execution.hook_layers(module, prepared.mapping), prepared)
        progress("comparing", STEPS, STEPS)
        suspicion = diagnosis.diagnose(proof, prepared, state)
        weights = _weights(request.weights) if request.weights else None
        params_file.verify_published_sha1(found, prepared.model.published)
    beside = weights.file if weights else "the module" if request.module is not None else "the conversion"
    return CheckpointComparison(prepared, beside, weights, proof, apart, suspicion)


def _other_side(request: ComparisonRequest, prepared: LoadedModel) -> tuple[nn.Module, Arrays]:
    """Return the module to compare with, and its arrays."""
    if request.module is not None:
        module = copy.deepcopy(request.module)  # it will change its precision
        return module, _completed(prepared, execution.arrays(request.module), "the module")
    state = prepared.state
    if request.weights is not None:
        state = _completed(prepared, checkpoint.read(request.weights), str(request.weights))
    return execution.build(state, prepared.model.config), state


def _completed(prepared: LoadedModel, arrays: Arrays, name: str) -> Arrays:
    target = prepared.mapping.to_target()
    if arrays.keys() == target.keys():  # Gluon's own names
        arrays = {target[source]: array for source, array in arrays.items()}
    return matching.complete(prepared.mapping, arrays, prepared.model.shapes, name)


def _apart(prepared: LoadedModel, state: Arrays) -> Iterator[TensorDiff]:
    for tensor in prepared.mapping.tensors:
        found = array_comparison.compare(tensor.target, prepared.params[tensor.source], state[tensor.target])
        if found is not None and found.count != 0:  # the same values in another precision are the same
            yield found


def _weights(path: Path) -> WeightsFile:
    return WeightsFile(disk.file_name(path), disk.sha256(path, CheckpointError))
