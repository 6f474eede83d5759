"""Make the JSON document of a comparison with a graph, of which reports and summaries are made."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter import __version__, names
from converter.parity import diagram_rows
from converter.parity.graph_inputs import SEED
from converter.parity.graph_rows import Part
from converter.parity.json_report import (
    CheckRow,
    DiagnosisRow,
    Document,
    FileRow,
    LayerRow,
    ReferenceRow,
    SourceRow,
    StatisticsRow,
    TensorRow,
    TensorsRow,
)
from converter.parity.result import GRAPH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.formats.array_comparison import TensorDiff
    from converter.graphs.graph import Graph
    from converter.parity.checkpoint_comparison import WeightsFile
    from converter.parity.diagram_rows import DiagramRow
    from converter.parity.graph_outputs import Run
    from converter.parity.graph_proof import ConvertedGraph
    from converter.parity.graph_rows import GraphProof, GraphRow
    from converter.parity.result import Statistics
    from converter.references import ReferenceName
    from converter.sources.params_file import ParamsFile

OUTPUT = "output"  # the part of the network's outputs
UNDECIDED = "after an operator that sorts or selects: its nodes are compared one by one"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphComparison:
    """The comparison of a network with a graph.

    Attributes:
        name: the name of the generated module.
        graph: the graph as it was read.
        file: its parameters.
        converted: the graph and the module that is generated from it.
        target_name: name of the compared side: the checkpoint's file, "the module" or "the conversion".
        weights: the checkpoint, None if there is none.
        tensors: the tensors whose values differ.
        proof: the comparison of the outputs.
        reference: what ran the graph.
        runs: the dtype and the inputs of each run.
    """

    name: str
    graph: Graph
    file: ParamsFile
    converted: ConvertedGraph
    target_name: str
    weights: WeightsFile | None
    tensors: tuple[TensorDiff, ...]
    proof: GraphProof
    reference: ReferenceName
    runs: Sequence[Run]

    @property
    def passed(self) -> bool:
        """Whether all tensors are equal and the outputs agree."""
        return self.proof.passed and not self.tensors


def build(comparison: GraphComparison) -> Document:
    """Return the document. Numbers that are not finite become None, as JSON cannot represent them."""
    proof, weights, source = comparison.proof, comparison.weights, comparison.converted.module.source
    differences = (TensorRow(name=diff.name, difference=str(diff)) for diff in comparison.tensors)
    return Document(
        model=comparison.name,
        agrees=comparison.passed,
        source=SourceRow(
            file=comparison.file.name,
            sha1=comparison.file.sha1,
            official=False,
            symbol=comparison.graph.name,
            symbol_sha256=hashlib.sha256(comparison.graph.content).hexdigest(),
        ),
        target=comparison.target_name,
        weights=FileRow(file=weights.file, sha256=weights.sha256) if weights else None,
        mapping=FileRow(file=f"{comparison.name}.py", sha256=hashlib.sha256(source.encode()).hexdigest()),
        reference=ReferenceRow(name=comparison.reference, definition=GRAPH, versions=proof.versions),
        tensors=TensorsRow(compared=len(comparison.converted.module.tensors), different=tuple(differences)),
        vacuous_layers=tuple(proof.vacuous_layers),
        checks=tuple(_check(proof, number, run) for number, run in enumerate(comparison.runs)),
        diagnosis=_diagnosis(comparison),
        version=__version__,
        state_dict=weights.location if weights else None,
        diagram=_diagram(comparison),
    )


def _check(proof: GraphProof, number: int, run: Run) -> CheckRow:
    dtype, _ = run
    rows = [row for row in proof.comparisons if row.run == number]
    nodes = [row for row in rows if row.part is Part.node]
    # In the order of the network: a node that failed comes before its layer, the outputs come last.
    shown = [row for row in rows if row.part is not Part.node or not row.passed]
    shown.sort(key=lambda row: (not row.layer and row.part is not Part.node, row.index))
    return CheckRow(
        dtype=dtype,
        size=_size(run),
        seed=SEED,
        agrees=all(row.passed for row in rows),
        summary=f"{_worst(shown)} of {len(shown)} outputs, {_worst(nodes)} of {len(nodes)} nodes one by one",
        failure="",
        layers=tuple(map(_layer, shown)),
    )


def _size(run: Run) -> str:
    return " ".join("x".join(map(str, array.shape)) for array in run[1].values())


def _worst(rows: list[GraphRow]) -> str:
    decisive = [row.relative for row in rows if row.decisive]
    return f"max error {max(decisive, default=0.0):.1e}"


def _layer(row: GraphRow) -> LayerRow:
    part = row.layer.partition(".")[0] or OUTPUT
    remark = str(row.part) if row.part is not Part.end_to_end else "" if row.decisive else UNDECIDED
    return LayerRow(
        source=names.printable(row.node),
        target=row.layer or OUTPUT,
        kind=row.operator,
        part=part,
        agrees=row.passed,
        max_abs=_number(row.difference.max_abs),
        relative=_number(row.relative),
        limit=row.limit,
        reference=_statistics(row.difference.reference),
        module=_statistics(row.difference.module),
        settings=(),
        remark=remark,
        compared=row.part,
        decisive=row.decisive,
    )


def _statistics(statistics: Statistics) -> StatisticsRow:
    return StatisticsRow(mean=_number(statistics.mean), deviation=_number(statistics.deviation))


def _diagnosis(comparison: GraphComparison) -> DiagnosisRow | None:
    """Return the first output that differs; its operands agree, so its node or its weights are the cause."""
    proof = comparison.proof
    row = proof.first_mismatch
    if row is None:
        return None
    layer = _layer(row)
    tensors = [diff.name for diff in comparison.tensors]
    own = [name for name in tensors if row.layer and name.startswith(f"{row.layer}.")]
    suspicions = tuple(f"the weights differ: {name}" for name in own)
    text = "\n  ".join(
        [
            f"first mismatch in {row.dtype}: {layer.source} ({row.operator}) → {layer.target}",
            f"compared  {row.part}",
            f"expected  a relative error of at most {row.limit:.0e}",
            f"found     {row.relative:.1e}",
            *suspicions,
        ]
    )
    return DiagnosisRow(
        dtype=row.dtype,
        size=_size(comparison.runs[row.run]),
        layer=layer,
        suspicions=suspicions,
        text=text,
        samples=row.samples,
    )


def _diagram(comparison: GraphComparison) -> DiagramRow | None:
    """Return the nodes with the errors of the run that failed first, else of the one with the least limit."""
    proof, converted = comparison.proof, comparison.converted
    if not proof.comparisons:
        return None
    shown = proof.first_mismatch or min(proof.comparisons, key=lambda row: row.limit)
    rows = [row for row in proof.comparisons if row.run == shown.run]
    return diagram_rows.of_graph(converted.pruned.graph, converted.module.layers, rows, shown.run)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
