"""The JSON document of a parity check, which tables, reports and summaries are made from."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from msgspec import Struct

from converter import __version__, names
from converter.formats.state_dicts import Location  # noqa: TC001 - msgspec reads the annotations
from converter.parity import diagram_rows, result
from converter.parity.diagram_rows import DiagramRow  # noqa: TC001 - as above
from converter.parity.samples import Samples  # noqa: TC001 - as above

if TYPE_CHECKING:
    from converter.networks.loading import LoadedModel
    from converter.parity.checkpoint_comparison import CheckpointComparison
    from converter.parity.diagnosis import Diagnosis
    from converter.parity.result import LayerDiff, ProbeResult, Statistics

TENSORS = 20  # tensors that differ, in a text; the document has all
REFERENCES = {
    ("gluon", "gluoncv"): "GluonCV",
    ("gluon", "graph"): "the graph, run by MXNet",
    ("numpy", "gluoncv"): "the built-in NumPy reference",
    ("numpy", "graph"): "the graph, run by the built-in NumPy reference",
}


class SourceRow(Struct, frozen=True, kw_only=True):
    """The Gluon parameters."""

    file: str
    sha1: str
    official: bool
    symbol: str | None
    symbol_sha256: str | None


class FileRow(Struct, frozen=True, kw_only=True):
    """A checkpoint or a mapping file."""

    file: str
    sha256: str


class ReferenceRow(Struct, frozen=True, kw_only=True):
    """What computed the expected outputs."""

    name: str
    definition: str | None
    versions: dict[str, str]


class TensorRow(Struct, frozen=True, kw_only=True, rename={"difference": "found"}):
    """A tensor that differs."""

    name: str
    difference: str


class TensorsRow(Struct, frozen=True, kw_only=True, rename={"different": "apart"}):
    """How many tensors were compared, and those that differ."""

    compared: int
    different: tuple[TensorRow, ...]


class StatisticsRow(Struct, frozen=True, kw_only=True):
    """Mean and standard deviation of an output; None if not finite."""

    mean: float | None
    deviation: float | None


class SettingRow(Struct, frozen=True, kw_only=True):
    """A hyper-parameter that differs."""

    name: str
    reference: object
    module: object


class LayerRow(Struct, frozen=True, kw_only=True):
    """The comparison of one layer, as in ``LayerDiff``; None for a number that is not finite.

    ``compared`` is "" for a layer of a named network; of a graph, it is what was compared. A row after an
    operator that sorts or selects is not ``decisive``: a difference is no failure.
    """

    source: str
    target: str
    kind: str
    part: str
    agrees: bool
    max_abs: float | None
    relative: float | None
    limit: float
    reference: StatisticsRow
    module: StatisticsRow
    settings: tuple[SettingRow, ...]
    remark: str
    compared: str = ""
    decisive: bool = True


class CheckRow(Struct, frozen=True, kw_only=True):
    """The comparison for one probe."""

    dtype: str
    size: str
    seed: int
    agrees: bool
    summary: str
    failure: str
    layers: tuple[LayerRow, ...]


class DiagnosisRow(Struct, frozen=True, kw_only=True):
    """The first layer that differs, the likely causes, and some of its values."""

    dtype: str
    size: str
    layer: LayerRow
    suspicions: tuple[str, ...]
    text: str
    samples: Samples | None = None


class Document(Struct, frozen=True, kw_only=True, rename={"target": "beside", "vacuous_layers": "blind"}):
    """The result of a parity check.

    Attributes:
        model: name of the model.
        agrees: whether all tensors are equal and every check passed.
        source: the Gluon parameters.
        target: name of the compared checkpoint or module; "beside" in JSON.
        weights: the compared checkpoint, None if there was none.
        state_dict: where the weights are in it, None if there was none.
        mapping: the mapping file.
        reference: what computed the expected outputs.
        tensors: the comparison of the tensors.
        vacuous_layers: layers whose outputs do not depend on their weights; "blind" in JSON.
        checks: one per probe.
        diagnosis: likely causes of the first mismatch, None if no layer mismatches.
        version: version of gluon2torch.
        diagram: the network with the errors of the strictest check, None if there is no check.
    """

    model: str
    agrees: bool
    source: SourceRow
    target: str
    weights: FileRow | None
    mapping: FileRow
    reference: ReferenceRow
    tensors: TensorsRow
    vacuous_layers: tuple[str, ...]
    checks: tuple[CheckRow, ...]
    diagnosis: DiagnosisRow | None
    version: str
    state_dict: Location | None = None
    diagram: DiagramRow | None = None


def describe_reference(reference: str, definition: str | None) -> str:
    """Describe what the outputs were compared with.

    Args:
        reference: the reference's name.
        definition: "graph" or "gluoncv"; None in manifests before 0.2.
    """
    return REFERENCES.get((reference, definition or "gluoncv"), reference)


def build(comparison: CheckpointComparison) -> Document:
    """Return the document. Numbers that are not finite become None, as JSON cannot represent them."""
    loaded, proof, weights = comparison.loaded, comparison.proof, comparison.weights
    differences = (TensorRow(name=diff.name, difference=str(diff)) for diff in comparison.tensors)
    return Document(
        model=loaded.model.name,
        agrees=comparison.passed,
        source=_source(loaded),
        target=comparison.target_name,
        weights=FileRow(file=weights.file, sha256=weights.sha256) if weights else None,
        mapping=FileRow(file=loaded.mapping.file, sha256=loaded.mapping.sha256),
        reference=ReferenceRow(name=proof.reference, definition=proof.definition, versions=proof.versions),
        tensors=TensorsRow(compared=len(loaded.mapping.tensors), different=tuple(differences)),
        vacuous_layers=proof.vacuous_layers,
        checks=tuple(map(_check, proof.checks)),
        diagnosis=_diagnosis(comparison.diagnosis) if comparison.diagnosis else None,
        version=__version__,
        state_dict=weights.location if weights else None,
        diagram=diagram_rows.of_layers(loaded.mapping.layers, proof) if proof.checks else None,
    )


def sentence(document: Document) -> str:
    """Summarize the result and its evidence in one sentence."""
    tensors, checks = document.tensors, document.checks
    equal = tensors.compared - len(tensors.different)
    layers = max((len(check.layers) for check in checks), default=0)
    reference = describe_reference(document.reference.name, document.reference.definition)
    agreeing = sum(check.agrees for check in checks)
    return (
        f"{document.target} and {document.source.file}: "
        f"{equal} of {tensors.compared} tensors equal, "
        f"{layers} layers compared with {reference}, "
        f"{agreeing} of {len(checks)} checks passed"
    )


def problems(document: Document, tensors: int = TENSORS) -> list[str]:
    """Return the mismatches as lines; details are indented, and at most ``tensors`` tensors are listed."""
    lines = []
    diffs = document.tensors.different
    if diffs:
        lines.append(f"{len(diffs)} tensor{'s differ' if len(diffs) > 1 else ' differs'}")
        texts = [f"{tensor.name}  {tensor.difference}" for tensor in diffs]
        lines += [f"  {line}" for line in names.shorten(texts, tensors)]
    lines += [
        f"{check.dtype} at {check.size}: {check.summary}" for check in document.checks if not check.agrees
    ]
    lines += document.diagnosis.text.split("\n") if document.diagnosis else []
    if document.vacuous_layers:
        lines.append("these layers prove nothing: their outputs do not depend on their weights")
        lines += [f"  {pattern}" for pattern in names.collapse(document.vacuous_layers)]
    return lines


def _source(loaded: LoadedModel) -> SourceRow:
    file, graph = loaded.source.params_file, loaded.source.graph
    return SourceRow(
        file=file.name,
        sha1=file.sha1,
        official=file.is_published(loaded.model.published),
        symbol=graph.name if graph else None,
        symbol_sha256=hashlib.sha256(graph.content).hexdigest() if graph else None,
    )


def _check(check: ProbeResult) -> CheckRow:
    return CheckRow(
        dtype=check.probe.dtype,
        size=check.probe.label,
        seed=check.probe.seed,
        agrees=check.agrees,
        summary=result.describe(check),
        failure=check.failure,
        layers=tuple(map(_row, check.rows)),
    )


def _row(row: LayerDiff) -> LayerRow:
    return LayerRow(
        source=row.layer.source,
        target=row.layer.target,
        kind=row.layer.kind,
        part=row.layer.part,
        agrees=row.agrees,
        max_abs=_number(row.max_abs),
        relative=_number(row.relative),
        limit=row.limit,
        reference=_statistics(row.reference),
        module=_statistics(row.module),
        settings=tuple(
            SettingRow(name=name, reference=expected, module=actual)
            for name, expected, actual in row.settings
        ),
        remark=row.remark,
    )


def _statistics(statistics: Statistics) -> StatisticsRow:
    return StatisticsRow(mean=_number(statistics.mean), deviation=_number(statistics.deviation))


def _diagnosis(diagnosis: Diagnosis) -> DiagnosisRow:
    return DiagnosisRow(
        dtype=diagnosis.probe.dtype,
        size=diagnosis.probe.label,
        layer=_row(diagnosis.row),
        suspicions=tuple(diagnosis.suspicions),
        text=str(diagnosis),
        samples=diagnosis.row.samples,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
