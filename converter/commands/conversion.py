"""The conversion pipeline: source, parameters, mapping, artifact, proof, manifest."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from converter.choices import ExportFormat, Precision
from converter.commands.arguments import choice, choices, optional_path, to_path
from converter.errors import LabelsError
from converter.exports import exporting
from converter.exports.exporting import ExportSource
from converter.formats import (
    archives,
    artifact,
    labels,
    precision,
    program_file,
    torch_file,
    torch_package,
)
from converter.manifests import builder, schema
from converter.manifests.builder import Output, WrittenFile
from converter.networks import figures, loading, selection
from converter.parity import diagnosis, execution, rounding, runner
from converter.parity.options import ParityOptions
from converter.parity.result import NOT_COMPARED, require_passed
from converter.progress import silent
from converter.references.probes import Probe
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    from converter.exports.exporting import ExportedFile
    from converter.formats.artifact import ArtifactDraft
    from converter.formats.file_arrays import Arrays
    from converter.formats.torch_file import TorchDraft
    from converter.manifests.schema import Manifest
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel
    from converter.networks.selection import ParamsSource
    from converter.parity.comparison import Reference
    from converter.parity.result import ParityResult
    from converter.parity.rounding import RoundingReport
    from converter.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRequest:
    """What to convert and how.

    Attributes:
        source: the parameters.
        out: output folder.
        options: how to prove the conversion.
        precision: type of the written weights.
        labels: file of class names.
        pth: whether to write a ``.pth`` too.
        exports: the files of the whole network to write too.
    """

    source: ParamsSource
    out: Path
    options: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    labels: Path | None = None
    pth: bool = False
    exports: tuple[ExportFormat, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult:
    """The model, the written files and the manifest.

    Attributes:
        model: the model.
        artifact: the weights.
        manifest_file: the manifest's file.
        manifest: the manifest.
        pth: the ``.pth``, None if none was requested.
        more: the ``.pth`` and the exported files that were requested.
        class_list: the list of class names in the archive that was used, or why it was not; empty if
            there is none.
    """

    model: Model
    artifact: Path
    manifest_file: Path
    manifest: Manifest
    pth: Path | None = None
    more: tuple[Path, ...] = ()
    class_list: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """Files under temporary names, and the arrays in them."""

    state: Arrays
    draft: ArtifactDraft
    pth: TorchDraft | None
    exports: tuple[ExportedFile, ...] = ()


def convert(  # noqa: PLR0913 - the options of the command
    model: str,
    out: str | PathLike[str],
    *,
    params: str | PathLike[str] | None = None,
    source: str | None = None,
    random: int | None = None,
    symbol: str | PathLike[str] | None = None,
    backbone: bool = False,
    output_stride: int | None = None,
    labels: str | PathLike[str] | None = None,
    dtype: str = "keep",
    pth: bool = False,
    exports: Sequence[str] = (),
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> ConversionResult:
    """Convert a model to safetensors and prove it. Nothing appears in ``out`` unless every step succeeds.

    Args:
        model: the model's name, or "auto" to detect it from the tensors of ``params``.
        out: output folder, created if it does not exist.
        params: ``.params`` file, or an archive of one; by default GluonCV's cache, then a download, then
            timm's copy on the Hub if it is exactly the published file.
        source: a checkpoint on the Hub, instead of a file: ``hf-hub:ORG/NAME``, also with ``@REVISION``.
        random: seed of random parameters, instead of a file.
        symbol: graph of the parameters; by default it is searched for in their folder or archive.
        backbone: whether to take the network without its head, also out of a larger network.
        output_stride: 8 or 16 for a dilated network; by default that of the graph, else 32.
        labels: file of class names, one per line or a JSON list.
        dtype: type of the written weights: "keep", "float32", "float16" or "bfloat16".
        pth: whether to write a ``.pth`` too.
        exports: files of the whole network to write too, "onnx" and "pt2", for images of the model's
            input size.
        options: how to prove the conversion.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the arguments contradict each other.
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    request = ConversionRequest(
        source=selection.select(
            model,
            optional_path(params),
            random,
            optional_path(symbol),
            source=source,
            backbone=backbone,
            output_stride=output_stride,
        ),
        out=to_path(out),
        options=options,
        precision=choice(Precision, "dtype", dtype),
        labels=optional_path(labels),
        pth=pth,
        exports=choices(ExportFormat, "exports", exports),
    )
    return run(request, progress)


def run(request: ConversionRequest, progress: Progress = silent) -> ConversionResult:
    """Run a conversion.

    Raises:
        ConversionError: if a step fails.
    """
    plan = runner.resolve_reference(request.options)
    _require_usable(request)
    if plan is not None:
        torch_package.import_early()
    with selection.open_source(request.source, progress) as source, contextlib.ExitStack() as stack:
        loaded = loading.load_model(request.source, source)
        class_names, class_list = _class_names(request, loaded)
        references = stack.enter_context(runner.start_references(plan, loaded, progress))
        written = stack.enter_context(_write(request, loaded, progress))
        proof, rounding_report = _prove(request, loaded, written, references, progress)
        written = stack.enter_context(_with_exports(request, loaded.model, written))
        weights, pth = _final_names(request, loaded.model, written)
        output = Output(
            artifact=weights,
            dtypes=written.draft.dtypes,
            pth=pth,
            exports=tuple(each.record for each in written.exports),
            labels=class_names,
        )
        manifest = builder.build(loaded, output, proof, rounding_report)
        params_file.verify_published_sha1(source, loaded.model.published)
        return replace(_publish(request, loaded, written, manifest), class_list=class_list)


def _require_usable(request: ConversionRequest) -> None:
    """Refuse an output folder, a labels file or formats that cannot be used, before any work is done."""
    exporting.require_packages(request.exports)
    disk.require_writable(request.out)
    if request.labels is not None:
        disk.require_regular(request.labels)


def _class_names(request: ConversionRequest, loaded: LoadedModel) -> tuple[tuple[str, ...], str]:
    """Return the class names, and which list in the archive they come from or why it is not used."""
    classes = loaded.model.config.num_classes
    if request.labels is not None:
        return labels.read(request.labels, classes), ""
    file, lists, reasons = loaded.source.params_file, {}, []
    for member in sorted(file.class_lists, key=archives.class_list_rank) if classes else ():
        place = f"{PurePosixPath(member)} in {file.name}"
        try:
            lists[place] = labels.parse_list(file.class_lists[member], classes, place)
        except LabelsError as error:
            reasons.append(f"not used: {error}")
    if len({*lists.values()}) > 1:
        return (), f"not used: {' and '.join(lists)} differ; select one with --labels"
    for place, class_names in lists.items():
        return class_names, f"{len(class_names)} class names from {place}"
    return (), reasons[0] if reasons else ""


@contextlib.contextmanager
def _write(request: ConversionRequest, loaded: LoadedModel, progress: Progress) -> Iterator[_Written]:
    """Write the weights to temporary files and read them back; the files are deleted on exit."""
    state = precision.cast(loaded.state, request.precision)
    with contextlib.ExitStack() as stack:
        draft = stack.enter_context(artifact.draft(request.out, state, progress))
        artifact.verify(draft, state)
        pth = stack.enter_context(torch_file.draft(request.out, state)) if request.pth else None
        yield _Written(state=state, draft=draft, pth=pth)


def _prove(
    request: ConversionRequest,
    loaded: LoadedModel,
    written: _Written,
    references: tuple[Reference, ...],
    progress: Progress,
) -> tuple[ParityResult, RoundingReport | None]:
    """Compare the network with the reference; weights that were rounded are compared before rounding.

    Raises:
        ParityError: if the two do not agree, or if the comparison is vacuous.
    """
    lossless = precision.lossless(loaded.state, written.state)
    proof = NOT_COMPARED
    if references:
        config = loaded.model.config
        module = (
            execution.load(written.draft.path, config) if lossless else execution.stream(loaded.state, config)
        )
        proof = runner.prove(references, execution.hook_layers(module, loaded.mapping), loaded, progress)
        require_passed(proof, diagnosis.diagnose(proof, loaded, loaded.state))
    if lossless:
        return proof, None
    return proof, rounding.measure(loaded.model, loaded.state, written.state, request.precision)


@contextlib.contextmanager
def _with_exports(request: ConversionRequest, model: Model, written: _Written) -> Iterator[_Written]:
    """Export the network to temporary files, which are compared with it and deleted on exit."""
    if not request.exports:
        yield written
        return
    channels, *size = figures.preprocessing(model)["input_size"]
    image = Probe("float32", (size[0], size[1]), channels=channels).input()
    network = execution.build(written.state, model.config).float().eval()
    source = ExportSource(
        network=network,
        stem=_stem(request, model),
        sha256=written.draft.sha256,
        inputs=("images",),
        outputs=("logits" if model.config.num_classes else "features",),
        image=image,
        expected=program_file.outputs(network, image),
        reference="module",
    )
    with exporting.draft(request.out, request.exports, source) as exported:
        yield replace(written, exports=exported)


def _stem(request: ConversionRequest, model: Model) -> str:
    return model.name if request.source.seed is None else f"{model.name}.random"


def _final_names(
    request: ConversionRequest, model: Model, written: _Written
) -> tuple[WrittenFile, WrittenFile | None]:
    """Name the files by their model and SHA-256."""
    stem = _stem(request, model)
    draft, pth = written.draft, written.pth
    weights = WrittenFile(name=artifact.file_name(stem, draft.sha256), sha256=draft.sha256, size=draft.size)
    if pth is None:
        return weights, None
    name = artifact.file_name(stem, pth.sha256, torch_file.SUFFIX)
    return weights, WrittenFile(name=name, sha256=pth.sha256, size=pth.size)


def _publish(
    request: ConversionRequest, loaded: LoadedModel, written: _Written, manifest: Manifest
) -> ConversionResult:
    """Give the files their final names, unless that would overwrite an input or a stronger proof."""
    destination = request.out / manifest.artifact.file
    manifest_file = destination.with_suffix(".json")
    pth = request.out / manifest.artifact.pth.file if manifest.artifact.pth else None
    graph = loaded.source.graph
    inputs = (loaded.source.params_file.user_path, graph.path if graph else None, request.labels)
    more = {written.pth.path: pth} if written.pth and pth else {}
    more |= {path: request.out / name for each in written.exports for path, name in each.paths.items()}
    for file in (destination, manifest_file, *more.values()):
        disk.require_other(file, inputs)
    with disk.locked(request.out):  # also guards against concurrent runs
        builder.require_no_loss(manifest_file, manifest)
        artifact.publish(written.draft, destination, schema.encode(manifest), more)
    return ConversionResult(
        model=loaded.model,
        artifact=destination,
        manifest_file=manifest_file,
        manifest=manifest,
        pth=pth,
        more=tuple(more.values()),
    )
