"""Converts a graph's parameters for an existing module, and proves them on that module."""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.commands import graph_export, graph_loading, target_alignment
from converter.formats import artifact
from converter.manifests import builder, graph_builder, schema, target_builder
from converter.manifests.builder import WrittenFile
from converter.manifests.graph_builder import GraphOutput
from converter.parity import graph_inputs, module_execution, other_inputs
from converter.parity.aligned_comparison import AlignedSide
from converter.storage import disk
from converter.targets import adaptation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from converter.commands.graph_export import MoreFiles
    from converter.commands.graph_loading import LoadedGraph, ProvenGraph
    from converter.commands.target_alignment import TargetOptions
    from converter.dtypes import Array
    from converter.formats.artifact import ArtifactDraft
    from converter.graphs.alignment.settings import SettingDifference
    from converter.manifests.schema import Manifest, ParityRecord
    from converter.manifests.target_builder import AlignedTarget, TargetSource
    from converter.parity.graph_outputs import Run
    from converter.parity.graph_rows import GraphRow
    from converter.parity.runner import ReferencePlan
    from converter.progress import Progress
    from converter.targets.specification import Target

SHOWN = 8  # differences in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRequest:
    """How a target is proven.

    Attributes:
        plan: the references to try, None for no proof.
        runs: the dtype and the inputs of each run; empty without a proof.
        inputs: what the target is run on to find its layers, in float32.
    """

    plan: ReferencePlan | None
    runs: Sequence[Run]
    inputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTarget:
    """The written files and the manifest."""

    artifact: Path
    manifest_file: Path
    manifest: Manifest
    more: tuple[Path, ...]


def request(
    loaded: LoadedGraph,
    plan: ReferencePlan | None,
    runs: Sequence[Run],
    shapes: Mapping[str, Sequence[int]] | None,
) -> ProofRequest:
    """Return how a target is proven.

    Args:
        loaded: the graph with its parameters.
        plan: the references to try, None for no proof.
        runs: the dtype and the inputs of each run.
        shapes: the shapes of inputs, by name; the others are derived from the graph.

    Raises:
        ParityError: if the graph does not take the inputs.
    """
    converted = loaded.converted
    by_shapes = {tuple(array.shape for array in inputs.values()): inputs for _, inputs in runs}
    for inputs in by_shapes.values():
        module_execution.require_accepted(converted, inputs)
    chosen = {name: array.shape for name, array in runs[0][1].items()} if runs else None
    values = graph_inputs.values(converted, chosen or graph_inputs.shapes(converted, None, shapes), "float32")
    return ProofRequest(plan=plan, runs=runs, inputs=values)


def convert(
    loaded: LoadedGraph,
    folder: Path,
    choices: TargetOptions,
    proof: ProofRequest,
    progress: Progress,
) -> WrittenTarget:
    """Align a graph with a target, write its weights and prove them; nothing appears if a step fails.

    Args:
        loaded: the graph with its parameters.
        folder: the output folder.
        choices: the target.
        proof: how it is proven.
        progress: called with a step, the amount done and the total.

    Raises:
        TargetError: if the target cannot be built, or does not take the inputs.
        MappingError: if it has another structure than the graph.
        ParityError: if it computes something else.
    """
    if choices.save is not None:
        disk.require_writable(choices.save.parent)
        disk.require_other(choices.save, (loaded.source.file.user_path, loaded.converted.whole.path))
    aligned = target_alignment.align(loaded, choices, proof.inputs)
    conversion = _Conversion(loaded=loaded, folder=folder, aligned=aligned, adapt=choices.adapt)
    table = target_alignment.mapping_text(loaded, aligned) if choices.save else ""
    with artifact.draft(folder, aligned.state, progress) as draft:
        artifact.verify(draft, aligned.state)
        proven = conversion.prove(draft.path, proof, progress)
        graph_loading.require_source(loaded.source)
        written = graph_export.WrittenWeights(
            stem=stem(aligned.target), sha256=draft.sha256, pth=aligned.state if choices.pth else None
        )
        with (
            graph_export.draft(folder, loaded.converted, written, (), proven) as more,
            _saved(choices.save, table) as saved,
        ):
            return conversion.publish(draft, proven, more, saved)


@contextlib.contextmanager
def _saved(path: Path | None, text: str) -> Iterator[dict[Path, Path]]:
    """Yield the temporary file of a text and its final path; nothing without a path."""
    if path is None:
        yield {}
        return
    with disk.temporary(path.parent) as part:
        with disk.writing(path):
            part.write_text(text, encoding="utf-8")
        yield {part: path}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversion:
    """The conversion of a graph's parameters for a target.

    Attributes:
        loaded: the graph with its parameters.
        folder: the output folder.
        aligned: the target and its weights.
        adapt: whether settings were changed where the target allows it.
    """

    loaded: LoadedGraph
    folder: Path
    aligned: AlignedTarget
    adapt: bool

    def prove(self, weights: Path, request: ProofRequest, progress: Progress) -> ProvenGraph:
        """Compare the target, with the written weights, with MXNet or with the graph on arrays.

        Raises:
            ParityError: if they differ.
        """
        alignment = self.aligned.alignment
        if request.plan is None or alignment is None:
            return graph_loading.ProvenGraph(record=graph_builder.UNPROVEN)
        converted, aligned, runs = self.loaded.converted, self.aligned, request.runs
        network = functools.partial(self._network, weights)
        side = AlignedSide(converted=converted, alignment=alignment, network=network)
        proof, reference = graph_loading.compare(converted, runs, request.plan, side, progress)
        helps = bool(aligned.adaptable) and not self.adapt
        remarks = _remarks(aligned.differences, proof.first_mismatch, adapt_helps=helps)
        proof.require(aligned.target.text, remarks)
        if runs:
            initialized = functools.partial(network, initialize=True)
            other_inputs.require_agreement(converted, initialized, runs[0][1], aligned.target.text)
        record = graph_builder.parity(proof, reference, runs)
        return graph_loading.ProvenGraph(record=record, proof=proof, runs=runs)

    def _network(self, weights: Path, dtype: str, *, initialize: bool = False) -> nn.Module:
        """Return the target with the written weights."""
        from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

        from converter.targets import building  # noqa: PLC0415 - imports torch

        target, adaptations = self.aligned.target, self.aligned.adaptations
        return building.load(target, adaptations, load_file(weights), dtype, initialize=initialize)

    def publish(
        self, draft: ArtifactDraft, proof: ProvenGraph, more: MoreFiles, elsewhere: Mapping[Path, Path]
    ) -> WrittenTarget:
        """Give the files their final names, unless that would overwrite an input."""
        source = target_builder.graph_source(self.loaded.source, self.loaded.converted)
        inputs = (self.loaded.source.file.user_path, self.loaded.converted.whole.path)
        files = TargetFiles(folder=self.folder, draft=draft, more=more, inputs=inputs, elsewhere=elsewhere)
        return publish(source, self.aligned, files, proof.record)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFiles:
    """The files of a conversion, under temporary names.

    Attributes:
        folder: the output folder.
        draft: the weights.
        more: the other files.
        inputs: the files that must not be overwritten.
        elsewhere: files outside the folder, with their final paths.
    """

    folder: Path
    draft: ArtifactDraft
    more: MoreFiles
    inputs: tuple[Path | None, ...]
    elsewhere: Mapping[Path, Path] = field(default_factory=dict)


def publish(
    source: TargetSource, aligned: AlignedTarget, files: TargetFiles, parity: ParityRecord
) -> WrittenTarget:
    """Give files their final names, unless that would overwrite an input, and write the manifest."""
    folder, draft, more = files.folder, files.draft, files.more
    weights = folder / artifact.file_name(stem(aligned.target), draft.sha256)
    written = target_builder.TargetFile(
        model=stem(aligned.target),
        file=WrittenFile(name=weights.name, sha256=draft.sha256, size=draft.size),
        output=GraphOutput(dtypes=draft.dtypes, pth=more.pth, exports=more.exports),
    )
    manifest = target_builder.build(source, aligned, written, parity)
    others = {temporary: folder / final for temporary, final in more.paths.items()} | dict(files.elsewhere)
    for path in (weights, weights.with_suffix(".json"), *others.values()):
        disk.require_other(path, files.inputs)
    with disk.locked(folder):
        builder.require_no_loss(weights.with_suffix(".json"), manifest)
        artifact.publish(draft, weights, schema.encode(manifest), others)
    return WrittenTarget(
        artifact=weights,
        manifest_file=weights.with_suffix(".json"),
        manifest=manifest,
        more=tuple(others.values()),
    )


def stem(target: Target) -> str:
    """Return the start of the names of a target's files."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", target.name)


def _remarks(
    differences: Sequence[SettingDifference], first: GraphRow | None, *, adapt_helps: bool
) -> list[str]:
    """Return what may explain a mismatch: settings that differ, and how to change them."""
    if first is not None and not first.layer and not differences:
        return [
            "every layer agrees: the outputs are computed from them in another way",
            "try       --output NODE, which ends the graph in a node, such as the one before a softmax",
        ]
    lines = [f"settings  {each}" for each in differences[:SHOWN]]
    lines += [f"settings  and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
    settings = [each for each in differences if each.setting]
    if adapt_helps:
        lines.append("try       --adapt, which sets them on the module")
    elif settings:
        example = settings[0]
        lines.append(
            "try       --target package.module:NAME, a function of your own that changes them first:"
        )
        lines.append(f"          {adaptation.statement(example.owner, example.setting, example.expected)}")
    return lines
