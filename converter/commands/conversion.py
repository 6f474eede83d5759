"""The conversion pipeline: source, parameters, mapping, artifact, proof."""

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
    """What to convert and how.

    Attributes:
        origin: the parameters.
        out: output folder.
        terms: how to prove the conversion.
        precision: type of the written weights.
        labels: file of class names.
        as_pth: whether to write a ``.pth`` too.
    """

    origin: ParamsSource
    out: Path
    terms: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    labels: Path | None = None
    as_pth: bool = False


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """The model, the written files and the contents of the manifest."""

    model: Model
    artifact: Path
    manifest_file: Path
    manifest: dict[str, Any]
    pth: Path | None = None


def convert(request: ConversionRequest, progress: Progress = silent) -> ConversionResult:
    """Convert one file and prove it. Nothing appears in ``out`` unless every step succeeds.

    Raises:
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    terms = runner.resolve_reference(request.terms)
    disk.require_writable(request.out)
    if request.labels is not None:
        disk.require_regular(request.labels, LabelsError)
    with loading.open_source(request.origin, progress) as source, contextlib.ExitStack() as stack:
        prepared = loading.load_model(request.origin, source)
        model = prepared.model
        class_names = labels.read(request.labels, model.config.num_classes) if request.labels else ()
        candidates = stack.enter_context(runner.start_references(terms, prepared))
        state = precision.cast(prepared.state, request.precision)
        draft = stack.enter_context(artifact.draft(request.out, state, progress))
        artifact.verify(draft, state)
        rounding_report, proof = None, NOT_COMPARED
        if precision.lossless(prepared.state, state):
            if terms.choice is not ReferenceChoice.none:
                proof = _prove(execution.load(draft.path, model.config), candidates, prepared, progress)
        else:
            if terms.choice is not ReferenceChoice.none:
                proof = _prove(execution.build(prepared.state, model.config), candidates, prepared, progress)
            rounding_report = rounding.measure(model, prepared.state, state, request.precision)
        pth = stack.enter_context(torch_file.draft(request.out, state)) if request.as_pth else None
        stem = model.name if request.origin.seed is None else f"{model.name}.random"
        destination = request.out / artifact.file_name(stem, draft.sha256)
        document = builder.build(
            prepared, draft, destination.name, ManifestResults(proof, rounding_report, class_names)
        )
        pth_files = {}
        if pth is not None:
            pth_files[pth.path] = request.out / artifact.file_name(stem, pth.sha256, torch_file.SUFFIX)
            pth_record = {"file": pth_files[pth.path].name, "sha256": pth.sha256, "bytes": pth.size}
            document["artifact"]["pth"] = pth_record
        graph = prepared.reading.graph
        for file in (destination, destination.with_suffix(".json"), *pth_files.values()):
            disk.require_other(file, (source.origin, graph.path if graph else None, request.labels))
        params_file.verify_published_sha1(source, model.published)
        with disk.locked(request.out):  # also guards against concurrent runs
            builder.require_no_loss(destination.with_suffix(".json"), document)
            manifest_file = artifact.publish(draft, destination, document, pth_files)
    return ConversionResult(model, destination, manifest_file, document, *pth_files.values())


def _prove(
    module: nn.Module, candidates: tuple[Reference, ...], prepared: LoadedModel, progress: Progress
) -> ParityResult:
    """Compare a module, with the written weights or with those before rounding, with the reference.

    Raises:
        ParityError: if the two do not agree, or if the comparison is vacuous.
    """
    progress("proving", 1, PROOF_STEPS)
    proof = runner.prove(candidates, execution.hook_layers(module, prepared.mapping), prepared)
    require_passed(proof, diagnosis.diagnose(proof, prepared, prepared.state))
    progress("proving", PROOF_STEPS, PROOF_STEPS)
    return proof
