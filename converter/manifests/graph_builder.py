"""Build the manifest of a module that was generated from a graph."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from msgspec import UNSET

from converter import __version__, names
from converter.manifests import schema
from converter.manifests.graph_records import (
    GraphRecord,
    ModuleRecord,
    NodesRecord,
    ReplacedRecord,
    TensorRecord,
)
from converter.manifests.schema import (
    ArtifactRecord,
    CheckRecord,
    ExportRecord,
    Manifest,
    ParityRecord,
    PthRecord,
    WorstLayerRecord,
)
from converter.manifests.source_records import SourceRecord
from converter.parity.graph_inputs import SEED
from converter.parity.graph_rows import Part
from converter.parity.result import GRAPH, LAYER_LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converter.dtypes import Array
    from converter.formats.params import Params
    from converter.graphs.graph import Graph
    from converter.manifests.builder import WrittenFile
    from converter.networks.recorded_graphs import RecordedNetwork
    from converter.parity.graph_outputs import Run
    from converter.parity.graph_proof import ConvertedGraph
    from converter.parity.graph_rows import GraphProof, GraphRow
    from converter.references import ReferenceName
    from converter.sources.params_file import ParamsFile

UNPROVEN = ParityRecord(proven=False, reference="none", versions={}, checks=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedSource:
    """What a module was generated from.

    Attributes:
        graph: the graph as it was read.
        file: the file of the parameters.
        params: its contents.
        variables: the graph's variable of each array in the file, by the array's name.
        has_casts: whether the graph has casts between floating types, which are not converted.
        network: the recorded network that the graph is of, None for the graph of a file.
    """

    graph: Graph
    file: ParamsFile
    params: Params
    variables: Mapping[str, str]
    has_casts: bool
    network: RecordedNetwork | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOutput:
    """What a conversion wrote besides the names of its files.

    Attributes:
        dtypes: the types of the weights.
        pth: the ``.pth``, None without one.
        exports: the exported files.
    """

    dtypes: tuple[str, ...]
    pth: PthRecord | None = None
    exports: tuple[ExportRecord, ...] = ()


def build(
    source: ConvertedSource,
    converted: ConvertedGraph,
    files: tuple[WrittenFile, WrittenFile],
    output: GraphOutput,
    parity: ParityRecord,
) -> Manifest:
    """Build the manifest.

    Args:
        source: the graph and its parameters.
        converted: the graph and the module.
        files: the weights and the module.
        output: what else was written.
        parity: the proof.
    """
    weights, code = files
    module = converted.module
    return Manifest(
        kind=schema.GENERATED,
        model=code.name.removesuffix(".py"),
        source=source_record(source, converted),
        module=ModuleRecord(file=code.name, sha256=code.sha256),
        artifact=ArtifactRecord(
            file=weights.name,
            sha256=weights.sha256,
            bytes=weights.size,
            dtypes=output.dtypes,
            pth=output.pth,
            exports=output.exports,
            tensors=len(module.tensors),
            parameters=sum(math.prod(converted.parameters[variable].shape) for variable in module.tensors),
        ),
        names=tuple(
            TensorRecord(source=name, target=module.tensors[variable])
            for name, variable in source.variables.items()
            if variable in module.tensors
        ),
        parity=parity,
        version=__version__,
        schema_version=schema.VERSION,
    )


def source_record(source: ConvertedSource, converted: ConvertedGraph) -> SourceRecord:
    """Return the record of a graph and its parameters."""
    file, pruned, module = source.file, converted.pruned, converted.module
    return SourceRecord(
        file=file.name,
        sha1=file.sha1,
        official=source.network is not None and file.is_published(source.network.published),
        network=source.network.name if source.network else None,
        archive=file.archive,
        container=source.params.container,
        records=tuple(source.params.records),
        symbol=source.graph.name,
        symbol_sha256=hashlib.sha256(source.graph.content).hexdigest(),
        fixed_gammas=tuple(names.collapse(sorted(module.ones))),
        casts=source.has_casts,
        graph=GraphRecord(
            inputs=module.inputs,
            outputs=tuple(pruned.graph.nodes[index].name for index, _ in pruned.graph.outputs),
            output=pruned.output,
            labels=pruned.labels,
            dropped=pruned.heads,
            unused=tuple(sorted({*source.variables.values()} - module.tensors.keys())),
        ),
    )


def parity(proof: GraphProof, reference: ReferenceName, runs: Sequence[Run]) -> ParityRecord:
    """Return the record of a proof.

    Args:
        proof: the proof.
        reference: what computed the expected outputs.
        runs: the dtype and the inputs of each run.
    """
    return ParityRecord(
        proven=proof.passed,
        reference=reference,
        definition=GRAPH,
        versions={**proof.versions, "torch": version("torch")},
        checks=tuple(_check(proof, number, *run) for number, run in enumerate(runs)),
        replaced=ReplacedRecord(operators=proof.replaced, relative=proof.rewriting)
        if proof.replaced
        else UNSET,
    )


def _check(proof: GraphProof, number: int, dtype: str, inputs: Mapping[str, Array]) -> CheckRecord:
    rows = [row for row in proof.rows if row.run == number]
    nodes = [row for row in proof.nodes if row.run == number]
    worst = max((row for row in rows if row.agrees), key=_relative, default=rows[-1])
    # An output after an operator that selects is compared with the nodes computed one after another.
    compared = [row for row in proof.comparisons if row.run == number and row.part is not Part.node]
    outputs = [row for row in compared if not row.layer and row.decisive]
    output = max(outputs, key=_relative)
    return CheckRecord(
        dtype=dtype,
        seed=SEED,
        limit=output.limit,
        layers=sum(row.agrees for row in rows if row.layer) + len(outputs),
        max_abs=output.difference.max_abs,
        relative=output.relative,
        worst=WorstLayerRecord(layer=worst.node, relative=worst.relative, limit=worst.limit),
        inputs={name: tuple(array.shape) for name, array in inputs.items()},
        nodes=_nodes(nodes, rows) if nodes else None,
    )


def _nodes(nodes: list[GraphRow], rows: list[GraphRow]) -> NodesRecord:
    worst = max(nodes, key=_relative)
    return NodesRecord(
        compared=len(nodes),
        node=worst.node,
        relative=worst.relative,
        limit=worst.limit,
        single=tuple(sorted({row.node for row in nodes if row.limit > LAYER_LIMITS[row.dtype]})),
        undecided=sum(not row.agrees for row in rows),
    )


def _relative(row: GraphRow) -> float:
    return row.relative
