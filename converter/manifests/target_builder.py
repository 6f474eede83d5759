"""Build the manifest of weights for a module that somebody else wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter import __version__
from converter.graphs.graph import VARIABLE
from converter.manifests import graph_builder, schema
from converter.manifests.graph_records import TensorRecord
from converter.manifests.schema import ArtifactRecord, Manifest
from converter.manifests.target_records import AdaptationRecord, RuleRecord, TargetRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converter.formats.file_arrays import Arrays
    from converter.graphs.alignment.alignment import Alignment
    from converter.graphs.alignment.settings import SettingDifference
    from converter.graphs.graph import Graph
    from converter.manifests.builder import WrittenFile
    from converter.manifests.graph_builder import ConvertedSource, GraphOutput
    from converter.manifests.schema import ParityRecord
    from converter.manifests.target_records import LayerTableRecord
    from converter.parity.graph_proof import ConvertedGraph
    from converter.targets.adaptation import Adaptation
    from converter.targets.specification import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedTarget:
    """A module that was aligned with a graph.

    Attributes:
        target: the module.
        alignment: the layers of both.
        adaptations: the settings that were changed.
        state: its state dict.
        table: the table of layers that took the place of an alignment, None without one.
    """

    target: Target
    alignment: Alignment
    adaptations: Sequence[Adaptation]
    state: Arrays
    table: LayerTableRecord | None = None

    @property
    def differences(self) -> list[SettingDifference]:
        """The settings that still differ."""
        changed = {(each.module, each.setting) for each in self.adaptations}
        return [each for each in self.alignment.differences if (each.owner, each.setting) not in changed]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFile:
    """The weights that were written.

    Attributes:
        model: the name of the module in file names.
        file: the file.
        output: its types, and what else was written.
    """

    model: str
    file: WrittenFile
    output: GraphOutput


def build(
    source: ConvertedSource,
    converted: ConvertedGraph,
    aligned: AlignedTarget,
    written: TargetFile,
    parity: ParityRecord,
) -> Manifest:
    """Build the manifest.

    Args:
        source: the graph and its parameters.
        converted: the graph.
        aligned: the module and its weights.
        written: the weights that were written.
        parity: the proof.
    """
    file, output = written.file, written.output
    names = _names(source.variables, aligned)
    return Manifest(
        kind=schema.EXISTING,
        model=written.model,
        source=graph_builder.source_record(source, converted),
        target=_target(aligned, converted.pruned.graph, names),
        artifact=ArtifactRecord(
            file=file.name,
            sha256=file.sha256,
            bytes=file.size,
            dtypes=output.dtypes,
            pth=output.pth,
            exports=output.exports,
            tensors=len(aligned.state),
            parameters=sum(array.size for array in aligned.state.values()),
        ),
        names=names,
        parity=parity,
        version=__version__,
        schema_version=schema.VERSION,
    )


def _names(variables: Mapping[str, str], aligned: AlignedTarget) -> tuple[TensorRecord, ...]:
    """Return the names of the tensors that a parameter became, in the order of the source, each once."""
    targets: dict[str, str] = {}
    for assignment in aligned.alignment.plan.assignments.values():
        if assignment.source is not None:
            targets.setdefault(assignment.source, assignment.target)
    return tuple(
        TensorRecord(source=name, target=targets[variable])
        for name, variable in variables.items()
        if variable in targets
    )


def _target(aligned: AlignedTarget, graph: Graph, names: tuple[TensorRecord, ...]) -> TargetRecord:
    alignment = aligned.alignment
    named = {record.target for record in names}
    return TargetRecord(
        name=aligned.target.text,
        arguments=dict(aligned.target.arguments),
        versions=aligned.target.versions,
        layers=len(alignment.pairs),
        symmetric=alignment.symmetric,
        rules=tuple(
            RuleRecord(rule=rule, layers=layers) for rule, layers in sorted(alignment.plan.rules.items())
        ),
        adaptations=tuple(
            AdaptationRecord(module=each.module, setting=each.setting, value=each.value)
            for each in aligned.adaptations
        ),
        differences=tuple(map(str, aligned.differences)),
        others=tuple(name for name in aligned.state if name not in named),
        single=tuple(
            node.name
            for node in graph.nodes
            if node.operation.kind != VARIABLE and node.operation.precision == "float32"
        ),
        table=aligned.table,
    )
