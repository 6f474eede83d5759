"""Build the manifest of weights for an existing module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter import __version__
from converter.graphs.graph import VARIABLE
from converter.manifests import graph_builder, schema
from converter.manifests.graph_records import TensorRecord
from converter.manifests.schema import ArtifactRecord, Manifest
from converter.manifests.target_records import RuleRecord, TargetRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converter.formats.file_arrays import Arrays
    from converter.graphs.alignment.alignment import Alignment
    from converter.graphs.alignment.rules import Plan
    from converter.graphs.alignment.settings import SettingDifference
    from converter.manifests.builder import WrittenFile
    from converter.manifests.graph_builder import ConvertedSource, GraphOutput
    from converter.manifests.schema import ParityRecord
    from converter.manifests.source_records import SourceRecord
    from converter.manifests.target_records import LayerTableRecord
    from converter.parity.graph_proof import ConvertedGraph
    from converter.targets.adaptation import Adaptation
    from converter.targets.specification import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedTarget:
    """A module that was aligned with a graph, or with parameters by a table of layers.

    Attributes:
        target: the module.
        plan: how its tensors were computed.
        layers: the number of its layers.
        alignment: the layers of the graph and the module, None without a graph.
        adaptations: the settings that were changed.
        state: its state dict.
        table: the table of layers that took the place of a search, None without one.
        adaptable: the settings that differ and are attributes of layers, which can be changed.
    """

    target: Target
    plan: Plan
    layers: int
    alignment: Alignment | None
    adaptations: Sequence[Adaptation]
    state: Arrays
    table: LayerTableRecord | None = None
    adaptable: Sequence[Adaptation] = ()

    @property
    def differences(self) -> list[SettingDifference]:
        """The settings that differ, also after the adaptations."""
        return [*self.alignment.differences] if self.alignment else []


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSource:
    """What the weights were computed from.

    Attributes:
        record: its record.
        variables: the graph's variable of each array in the file, by the array's name.
        single: names of the nodes that MXNet computes in float32 only.
    """

    record: SourceRecord
    variables: Mapping[str, str]
    single: tuple[str, ...] = ()


def graph_source(source: ConvertedSource, converted: ConvertedGraph) -> TargetSource:
    """Return a graph and its parameters as what weights were computed from."""
    return TargetSource(
        record=graph_builder.source_record(source, converted),
        variables=source.variables,
        single=tuple(
            node.name
            for node in converted.pruned.graph.nodes
            if node.operation.kind != VARIABLE and node.operation.precision == "float32"
        ),
    )


def build(
    source: TargetSource, aligned: AlignedTarget, written: TargetFile, parity: ParityRecord
) -> Manifest:
    """Build the manifest.

    Args:
        source: the parameters, and their graph if there is one.
        aligned: the module and its weights.
        written: the weights that were written.
        parity: the proof.
    """
    file, output = written.file, written.output
    names = _names(source.variables, aligned)
    return Manifest(
        kind=schema.EXISTING,
        model=written.model,
        source=source.record,
        target=_target(aligned, source.single, names),
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
    for assignment in aligned.plan.assignments.values():
        if assignment.source is not None:
            targets.setdefault(assignment.source, assignment.target)
    return tuple(
        TensorRecord(source=name, target=targets[variable])
        for name, variable in variables.items()
        if variable in targets
    )


def _target(aligned: AlignedTarget, single: tuple[str, ...], names: tuple[TensorRecord, ...]) -> TargetRecord:
    named = {record.target for record in names}
    return TargetRecord(
        name=aligned.target.text,
        arguments=dict(aligned.target.arguments),
        versions=aligned.target.versions,
        layers=aligned.layers,
        symmetric=aligned.alignment.symmetric if aligned.alignment else 0,
        rules=tuple(
            RuleRecord(rule=rule, layers=layers) for rule, layers in sorted(aligned.plan.rules.items())
        ),
        adaptations=tuple(aligned.adaptations),
        differences=tuple(map(str, aligned.differences)),
        others=tuple(name for name in aligned.state if name not in named),
        single=single,
        table=aligned.table,
    )
