"""The road of one conversion, from a name to a proven file: source → params → mapping → artifact → proof."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.choices import Precision, ReferenceChoice
from converter.errors import LabelsError
from converter.formats import artifact, labels, precision, torch_file
from converter.manifests import builder
from converter.manifests.builder import ManifestResults
from converter.networks import loading
from converter.parity import diagnosis, execution, rounding, runner
from converter.parity.result import NOT_COMPARED, require_passed
from converter.parity.runner import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel, ParamsSource
    from converter.parity.comparison import Reference
    from converter.parity.result import ParityResult
    from converter.progress import Progress

PROOF_STEPS = 2


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """What to convert, where to, how to prove it; in which type, with which class names, as ``.pth`` too."""

    origin: ParamsSource
    out: Path
    terms: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    labels: Path | None = None
    as_pth: bool = False


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """Which model it was, where the output is, the ``.pth`` if there is one, and what the manifest says."""

    model: Model
    artifact: Path
    manifest_file: Path
    manifest: dict[str, Any]
    pth: Path | None = None


def convert(request: ConversionRequest, progress: Progress = silent) -> ConversionResult:
    """Convert one file and prove it. Nothing appears in ``out`` unless all of it succeeds.

    Errors: ``ConversionError``, of a kind for each thing that can be wrong.
    """
    terms = runner.resolve_reference(request.terms)
    disk.require_writable(request.out)
    if request.labels is not None:
        disk.require_regular(request.labels, LabelsError)
    with loading.open_source(request.origin, progress) as found, contextlib.ExitStack() as stack:
        prepared = loading.load_model(request.origin, found)
        model = prepared.model
        classes = labels.read(request.labels, model.config.num_classes) if request.labels else ()
        candidates = stack.enter_context(runner.start_references(terms, prepared))
        state = precision.cast(prepared.state, request.precision)
        written = stack.enter_context(artifact.draft(request.out, state, progress))
        artifact.verify(written, state)
        rounded, proof = None, NOT_COMPARED
        if precision.lossless(prepared.state, state):
            if terms.choice is not ReferenceChoice.none:
                proof = _prove(execution.load(written.path, model.config), candidates, prepared, progress)
        else:
            if terms.choice is not ReferenceChoice.none:
                proof = _prove(execution.build(prepared.state, model.config), candidates, prepared, progress)
            rounded = rounding.measure(model, prepared.state, state, request.precision)
        pth = stack.enter_context(torch_file.draft(request.out, state)) if request.as_pth else None
        stem = model.name if request.origin.seed is None else f"{model.name}.random"
        destination = request.out / artifact.file_name(stem, written.sha256)
        document = builder.build(
            prepared, written, destination.name, ManifestResults(proof, rounded, classes)
        )
        more = {}
        if pth is not None:
            more[pth.path] = request.out / artifact.file_name(stem, pth.sha256, torch_file.SUFFIX)
            told = {"file": more[pth.path].name, "sha256": pth.sha256, "bytes": pth.size}
            document["artifact"]["pth"] = told
        graph = prepared.reading.graph
        for file in (destination, destination.with_suffix(".json"), *more.values()):
            disk.require_other(file, (found.origin, graph.path if graph else None, request.labels))
        params_file.verify_published_sha1(found, model.published)
        with disk.locked(request.out):  # what a run at the same time has proven is not lost either
            builder.require_no_loss(destination.with_suffix(".json"), document)
            beside = artifact.publish(written, destination, document, more)
    return ConversionResult(model, destination, beside, document, *more.values())


def _prove(
    module: nn.Module, candidates: tuple[Reference, ...], prepared: LoadedModel, progress: Progress
) -> ParityResult:
    """Compare our module, with the written weights or those that will be rounded, with the reference.

    Errors: ``ParityError`` where they do not agree, or could not help agreeing.
    """
    progress("proving", 1, PROOF_STEPS)
    proof = runner.prove(candidates, execution.hook_layers(module, prepared.mapping), prepared)
    require_passed(proof, diagnosis.diagnose(proof, prepared, prepared.state))
    progress("proving", PROOF_STEPS, PROOF_STEPS)
    return proof
