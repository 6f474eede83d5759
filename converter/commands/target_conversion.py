"""Converts a graph's parameters for a module that somebody else wrote, and proves them on that module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.commands import graph_export, graph_loading
from converter.formats import artifact
from converter.graphs.alignment import alignment, reduction
from converter.manifests import graph_builder, schema, target_builder
from converter.manifests.builder import WrittenFile
from converter.manifests.graph_builder import GraphOutput
from converter.manifests.target_builder import AlignedTarget
from converter.parity import graph_inputs, module_execution
from converter.parity.aligned_comparison import AlignedSide
from converter.sources import params_file
from converter.storage import disk
from converter.targets import adaptation, specification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from converter.commands.graph_export import MoreFiles
    from converter.commands.graph_loading import LoadedGraph, ProvenGraph
    from converter.dtypes import Array
    from converter.formats.artifact import ArtifactDraft
    from converter.graphs.alignment.settings import SettingDifference
    from converter.manifests.schema import Manifest
    from converter.parity.graph_outputs import Run
    from converter.parity.runner import ReferencePlan
    from converter.progress import Progress
    from converter.targets.adaptation import Adaptation
    from converter.targets.specification import Target

SHOWN = 8  # differences in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The module that the parameters are converted for.

    Attributes:
        target: the module.
        adapt: whether eps and slopes are set on the instance.
        pth: whether to write the weights as a ``.pth`` too.
    """

    target: Target
    adapt: bool = False
    pth: bool = False


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


def options(
    text: str, arguments: Mapping[str, Any] | None = None, *, adapt: bool = False, pth: bool = False
) -> TargetOptions:
    """Return the options of a conversion.

    Raises:
        UsageError: if the target has no valid form.
    """
    return TargetOptions(target=specification.parse(text, arguments), adapt=adapt, pth=pth)


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
    for inputs in {str([array.shape for array in each.values()]): each for _, each in runs}.values():
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
    aligned = align(loaded, choices, proof.inputs)
    conversion = _Conversion(loaded=loaded, folder=folder, aligned=aligned)
    with artifact.draft(folder, aligned.state, progress) as draft:
        artifact.verify(draft, aligned.state)
        proven = conversion.prove(draft.path, proof, progress)
        params_file.require_unchanged(loaded.source.file)
        written = graph_export.WrittenWeights(
            stem=conversion.stem, sha256=draft.sha256, pth=aligned.state if choices.pth else None
        )
        with graph_export.draft(folder, loaded.converted, written, (), proven) as more:
            return conversion.publish(draft, proven, more)


def align(loaded: LoadedGraph, choices: TargetOptions, inputs: Mapping[str, Array]) -> AlignedTarget:
    """Align a graph with a target, and compute the target's weights.

    Args:
        loaded: the graph with its parameters.
        choices: the target.
        inputs: what the target is run on to find its layers, by name.

    Raises:
        TargetError: if the target cannot be built, or does not take the inputs.
        MappingError: if it has another structure than the graph.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.targets import building, state  # noqa: PLC0415 - import torch
    from converter.targets import reduction as modules  # noqa: PLC0415 - as above

    converted = loaded.converted
    module = building.build(choices.target)
    values = [torch.from_numpy(inputs[name]) for name in converted.module.inputs]
    shapes = {name: tuple(loaded.arrays[name].shape) for name in converted.module.tensors}
    found = alignment.align(
        reduction.reduce(converted.pruned.graph, shapes, converted.whole.name),
        modules.reduce(module, values, choices.target.text),
    )
    weights = state.state_arrays(module, found.plan.assignments, loaded.arrays, converted.module.ones)
    return AlignedTarget(
        target=choices.target,
        alignment=found,
        adaptations=adaptation.choose(module, found.differences) if choices.adapt else (),
        state=dict(weights),
    )


def network(target: Target, adaptations: Sequence[Adaptation], weights: Path, dtype: str) -> nn.Module:
    """Return a target with the weights of a file, in a precision and in evaluation mode."""
    import torch  # noqa: PLC0415 - when a network runs and not before
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

    from converter.targets import building  # noqa: PLC0415 - imports torch

    module = building.build(target)
    adaptation.apply(module, adaptations)
    module = module.to(getattr(torch, dtype))
    module.load_state_dict(load_file(weights), strict=True)
    return module.eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversion:
    """The conversion of a graph's parameters for a target.

    Attributes:
        loaded: the graph with its parameters.
        folder: the output folder.
        aligned: the target and its weights.
    """

    loaded: LoadedGraph
    folder: Path
    aligned: AlignedTarget

    @property
    def stem(self) -> str:
        """The start of the names of the files."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self.aligned.target.name)

    def prove(self, weights: Path, request: ProofRequest, progress: Progress) -> ProvenGraph:
        """Compare the target, with the written weights, with MXNet or with the graph on arrays.

        Raises:
            ParityError: if they differ.
        """
        if request.plan is None:
            return graph_loading.ProvenGraph(record=graph_builder.UNPROVEN)
        converted, aligned, runs = self.loaded.converted, self.aligned, request.runs
        side = AlignedSide(
            converted=converted,
            alignment=aligned.alignment,
            network=lambda dtype: network(aligned.target, aligned.adaptations, weights, dtype),
        )
        proof, reference = graph_loading.compare(converted, runs, request.plan, side, progress)
        proof.require(aligned.target.text, _remarks(aligned.differences))
        record = graph_builder.parity(proof, reference, runs)
        return graph_loading.ProvenGraph(record=record, proof=proof, runs=runs)

    def publish(self, draft: ArtifactDraft, proof: ProvenGraph, more: MoreFiles) -> WrittenTarget:
        """Give the files their final names, unless that would overwrite an input."""
        loaded, folder = self.loaded, self.folder
        weights = folder / artifact.file_name(self.stem, draft.sha256)
        manifest = target_builder.build(
            loaded.source,
            loaded.converted,
            self.aligned,
            target_builder.TargetFile(
                model=self.stem,
                file=WrittenFile(name=weights.name, sha256=draft.sha256, size=draft.size),
                output=GraphOutput(dtypes=draft.dtypes, pth=more.pth, exports=more.exports),
            ),
            proof.record,
        )
        others = {temporary: folder / final for temporary, final in more.paths.items()}
        for path in (weights, weights.with_suffix(".json"), *others.values()):
            disk.require_other(path, (loaded.source.file.user_path, loaded.converted.whole.path))
        with disk.locked(folder):
            artifact.publish(draft, weights, schema.encode(manifest), others)
        return WrittenTarget(
            artifact=weights,
            manifest_file=weights.with_suffix(".json"),
            manifest=manifest,
            more=tuple(others.values()),
        )


def _remarks(differences: Sequence[SettingDifference]) -> list[str]:
    """Return the settings that differ, and how to change them, as lines of an error."""
    lines = [f"settings  {each}" for each in differences[:SHOWN]]
    lines += [f"settings  and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
    settings = [each for each in differences if each.setting]
    if any(each.setting in adaptation.ADAPTED for each in settings):
        lines.append("try       --adapt, which sets eps and slopes on the module")
    elif settings:
        first = settings[0]
        lines.append(
            "try       --target package.module:NAME, a function of your own that changes them first:"
        )
        lines.append(f"          {adaptation.statement(first.owner, first.setting, first.expected)}")
    return lines
