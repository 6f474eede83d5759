"""Converts any MXNet graph: a generated module, its weights, the proof and a manifest."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.choices import ExportFormat, ReferenceChoice
from converter.commands import (
    graph_export,
    graph_loading,
    table_conversion,
    target_alignment,
    target_conversion,
)
from converter.commands.arguments import choices, optional_path, to_path, to_text
from converter.errors import ArtifactError, UsageError
from converter.exports import exporting
from converter.formats import artifact
from converter.formats.detect import GRAPH_SUFFIX
from converter.graphs.codegen.module_name import module_name
from converter.manifests import builder, graph_builder, schema
from converter.manifests.builder import WrittenFile
from converter.manifests.graph_builder import GraphOutput
from converter.networks import graph_source, target_tables
from converter.parity import generated_network, runner
from converter.parity.options import ParityOptions
from converter.parity.run_comparison import GeneratedSide
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from typing import Any

    from converter.commands.graph_export import MoreFiles
    from converter.commands.graph_loading import LoadedGraph, ProvenGraph
    from converter.commands.target_alignment import TargetOptions
    from converter.commands.target_conversion import WrittenTarget
    from converter.formats.artifact import ArtifactDraft
    from converter.manifests.schema import Manifest
    from converter.parity.runner import ReferencePlan
    from converter.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConversionResult:
    """The written files and the manifest.

    Attributes:
        artifact: the weights.
        module: the generated module; None if the weights are for another one.
        manifest_file: the manifest's file.
        manifest: the manifest.
        more: the files that were requested in addition.
    """

    artifact: Path
    module: Path | None
    manifest_file: Path
    manifest: Manifest
    more: tuple[Path, ...] = ()


def convert_graph(  # noqa: PLR0913 - the options of the command
    graph: str | PathLike[str] | None,
    out: str | PathLike[str],
    *,
    params: str | PathLike[str] | None = None,
    random: int | None = None,
    epoch: int | None = None,
    output: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    pth: bool = False,
    exports: Sequence[str] = (),
    target: str | None = None,
    target_args: Mapping[str, Any] | None = None,
    adapt: bool = False,
    mapping: str | PathLike[str] | None = None,
    save_mapping: str | PathLike[str] | None = None,
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> GraphConversionResult:
    """Convert a graph to a PyTorch module and prove it; nothing appears in ``out`` if a step fails.

    With ``target``, the weights are for that module, an existing one, and no module is written.

    Args:
        graph: the ``-symbol.json``, MXNet's prefix of it, a folder, an archive with the parameters, or
            GluonCV's name of a network whose graph is recorded. None with ``params`` and ``mapping``, which
            convert without a graph and without a proof.
        out: output folder, created if it does not exist.
        params: its ``.params`` file, or an archive of one; by default those that ``graph`` names.
        random: seed of random parameters of a recorded graph, instead of a file.
        epoch: the epoch in the name of the parameters, if there are several.
        output: the name of a node; the network then ends in it.
        input_shapes: the shapes of inputs in the proof, by name; the others are derived from the graph.
        pth: whether to write the weights as a ``.pth`` too.
        exports: files of the whole network to write, "onnx" and "pt2". Their images have the first size
            in ``options``, by default 224 × 224.
        target: timm:NAME, torchvision:NAME, or package.module:NAME of a callable that returns a module; for a
            network with a table in ``mappings/targets`` also timm or torchvision alone.
        target_args: the keyword arguments of the callable.
        adapt: whether to set attributes of layers, such as eps and strides, on the target as the graph has
            them.
        mapping: a table of layers that ``save_mapping`` wrote, which takes the place of a search.
        save_mapping: the file that the table of layers is written to.
        options: how to prove the conversion.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if a proof is requested and the shape of an input is unknown.
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    folder = to_path(out)
    formats = choices(ExportFormat, "exports", exports)
    chosen = None
    if target is not None and target in target_tables.PACKAGES:
        if mapping is not None:
            raise UsageError(
                f"`mapping` and `target` {target} both select a table: give one", "mapping", "target"
            )
        mapping = target_tables.path("" if graph is None else to_text(graph), target)
        target = None
    if target is not None or mapping is not None:
        chosen = target_alignment.options(
            target,
            target_args,
            adapt=adapt,
            pth=pth,
            mapping=optional_path(mapping),
            save=optional_path(save_mapping),
        )
    given = {"target_args": target_args, "adapt": adapt, "save_mapping": save_mapping}
    _require_target(chosen, [name for name, value in given.items() if value], formats)
    exporting.require_packages(formats)
    if formats and not options.sizes and options.reference != ReferenceChoice.none:
        options = replace(options, sizes=(exporting.DEFAULT_SIZE,))
    plan = runner.resolve_reference(options)
    disk.require_writable(folder)
    if graph is None:
        return _convert_by_table(folder, optional_path(params), chosen, plan, progress)
    with disk.temp_dir() as unpacked:
        place, selected = to_text(graph), optional_path(params)
        source = graph_source.open_source(place, selected, epoch, unpacked, progress, seed=random)
        file = source.params
        loaded = graph_loading.load(graph_loading.prepare(source.graph, output), file, source.recorded)
        if not options.sizes:
            input_shapes = input_shapes or source.input_shapes
        runs = graph_loading.runs(loaded.converted, options, input_shapes)
        if chosen is not None:
            if source.recorded and source.recorded.has_other_classes:
                chosen = chosen.with_classes(source.recorded.network.classes)
            proof_request = target_conversion.request(loaded, plan, runs, input_shapes)
            network = source.recorded.network.name if source.recorded and chosen.table is None else ""
            with target_tables.named_in_errors(network):
                return _result(target_conversion.convert(loaded, folder, chosen, proof_request, progress))
        state = dict(generated_network.state_arrays(loaded.converted.module, loaded.arrays))
        with artifact.draft(folder, state, progress) as draft:
            artifact.verify(draft, state)
            module, path = loaded.converted.module, draft.path
            proof = graph_loading.prove(
                loaded.converted,
                plan,
                runs,
                progress,
                GeneratedSide(loaded.converted, lambda dtype: generated_network.read(module, path, dtype)),
            )
            graph_loading.require_source(loaded.source)
            written = graph_export.WrittenWeights(
                stem=_stem(loaded), sha256=draft.sha256, pth=state if pth else None
            )
            with graph_export.draft(folder, loaded.converted, written, formats, proof) as more:
                return _publish(folder, loaded, draft, proof, more)


def _convert_by_table(
    folder: Path,
    params: Path | None,
    chosen: TargetOptions | None,
    plan: ReferencePlan | None,
    progress: Progress,
) -> GraphConversionResult:
    """Convert parameters by a table of layers, without a graph.

    Raises:
        UsageError: without parameters or a table, or if a proof is requested.
    """
    if chosen is None or chosen.table is None or params is None:
        raise UsageError(
            "without a `graph`, `params` and `mapping` are required", "graph", "params", "mapping"
        )
    if plan is not None:
        raise UsageError(
            "a proof needs the `graph`, which says what the parameters compute; without, `reference` is none",
            "graph",
            "reference",
        )
    if chosen.pth or chosen.save:
        raise UsageError("`pth` and `save_mapping` require the `graph`", "pth", "save_mapping", "graph")
    with disk.temp_dir() as unpacked:
        file = params_file.from_file(params, unpacked, progress)
        return _result(table_conversion.convert(file, folder, chosen.table, progress))


def _require_target(
    chosen: TargetOptions | None, given: Sequence[str], formats: Sequence[ExportFormat]
) -> None:
    """Refuse options that apply to a target without one, and exported files with one.

    Raises:
        UsageError: with the option.
    """
    if chosen is not None and formats:
        raise UsageError("`exports` cannot be used with `target`", "exports", "target")
    if chosen is None and given:
        raise UsageError(f"`{given[0]}` requires `target`", given[0], "target")


def _result(written: WrittenTarget) -> GraphConversionResult:
    return GraphConversionResult(
        artifact=written.artifact,
        module=None,
        manifest_file=written.manifest_file,
        manifest=written.manifest,
        more=written.more,
    )


def _stem(loaded: LoadedGraph) -> str:
    """Return the start of the names of the files."""
    return module_name(loaded.converted.whole.name, (GRAPH_SUFFIX, ".json"))


def _publish(
    folder: Path, loaded: LoadedGraph, draft: ArtifactDraft, proof: ProvenGraph, more: MoreFiles
) -> GraphConversionResult:
    """Give the files their final names, unless that would overwrite an input."""
    converted, file = loaded.converted, loaded.source.file
    stem = _stem(loaded)
    source = converted.module.source.encode()
    weights, code = folder / artifact.file_name(stem, draft.sha256), folder / f"{stem}.py"
    written = (
        WrittenFile(name=weights.name, sha256=draft.sha256, size=draft.size),
        WrittenFile(name=code.name, sha256=hashlib.sha256(source).hexdigest(), size=len(source)),
    )
    manifest = graph_builder.build(
        loaded.source,
        converted,
        written,
        GraphOutput(dtypes=draft.dtypes, pth=more.pth, exports=more.exports),
        proof.record,
    )
    manifest_file = weights.with_suffix(".json")
    others = {temporary: folder / final for temporary, final in more.paths.items()}
    for path in (weights, manifest_file, code, *others.values()):
        disk.require_other(path, (file.user_path, converted.whole.path))
    with _temporary(folder, source) as temporary, disk.locked(folder):
        _require_same(code, source)
        builder.require_no_loss(manifest_file, manifest)
        artifact.publish(draft, weights, schema.encode(manifest), {temporary: code, **others})
    return GraphConversionResult(
        artifact=weights,
        module=code,
        manifest_file=manifest_file,
        manifest=manifest,
        more=tuple(others.values()),
    )


def _require_same(code: Path, source: bytes) -> None:
    """Refuse to replace another module, which earlier weights in the folder need.

    Raises:
        ArtifactError: if the file exists and has other contents.
    """
    if code.exists() and (code.stat().st_size != len(source) or code.read_bytes() != source):
        raise ArtifactError(
            f"{code}: exists, and is another module\n  try  another folder, or remove it first"
        )


@contextlib.contextmanager
def _temporary(folder: Path, content: bytes) -> Iterator[Path]:
    with disk.temporary(folder) as path:
        with disk.writing(folder):
            path.write_bytes(content)
        yield path
