"""The JSON document of ``inspect``."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from converter.commands.inspection_result import UnsupportedOperator  # noqa: TC001 - evaluated
from converter.formats.kinds import Kind  # noqa: TC001 - evaluated
from converter.formats.state_dicts import Location  # noqa: TC001 - evaluated
from converter.manifests.source_records import (
    PreprocessingRecord,  # noqa: TC001 - evaluated
    WrappingRecord,  # noqa: TC001 - evaluated
)

if TYPE_CHECKING:
    from converter.commands.inspection_result import GraphSummary, Inspection


class ModelRecord(Struct, frozen=True, kw_only=True):
    """A network that the tensors match, with its hyper-parameters."""

    model: str
    depths: tuple[int, ...]
    cardinality: int
    width: int
    classes: int
    channels: int
    output_stride: int


class StatisticsRecord(Struct, frozen=True, kw_only=True):
    """Statistics of the arrays of one role in one part of a network, over their finite elements.

    Attributes:
        part: part of the network, "all" if the model is unknown.
        role: role by Gluon's names; without a model, by the names in the file.
        arrays: number of arrays.
        numbers: number of elements, including those that are not finite.
        mean: mean; null if it is not finite.
        deviation: standard deviation, likewise.
        least: minimum, likewise.
        largest: maximum, likewise.
        zeros: number of zeros.
        not_finite: number of elements that are not finite.
    """

    part: str
    role: str
    arrays: int
    numbers: int
    mean: float | None
    deviation: float | None
    least: float | None
    largest: float | None
    zeros: int
    not_finite: int


class GraphContents(Struct, frozen=True, kw_only=True):
    """The contents of a graph.

    Attributes:
        inputs: the variables that are no parameters, such as the data.
        outputs: the names of the nodes that are the outputs.
        nodes: number of nodes, variables included.
        operators: number of nodes of each operator, most frequent first.
        parameters: number of parameters that it needs.
        labels: the labels, which are no inputs of the converted network.
        dropped: the outputs for training only, which the converted network does not have.
        casts: number of casts between floating types, which are not converted.
        unsupported: the operators that cannot be converted.
        shapes: the sizes of the parameters; null for a parameter or a size that is unknown.
        obstacle: why the graph has nothing to convert, "" if it has.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int
    operators: dict[str, int]
    parameters: int
    labels: tuple[str, ...]
    dropped: tuple[str, ...]
    casts: int
    unsupported: tuple[UnsupportedOperator, ...]
    shapes: dict[str, tuple[int | None, ...] | None]
    obstacle: str


class EntryRecord(Struct, frozen=True, kw_only=True):
    """A file in a folder: what it is in a few words, its kind, and what a manifest says about it."""

    what: str
    kind: Kind | None
    converted: bool
    trained: bool


class InspectionRecord(Struct, frozen=True, kw_only=True):
    """The document of ``gluon2torch inspect``.

    Attributes:
        file: name of the file or folder.
        bytes: its size.
        archive: kind of archive, null if the file is not packed.
        container: container format of the arrays.
        records: formats of the .params records.
        dialect: naming style.
        prefix: prefix of the names.
        models: models that the tensors match.
        network: GluonCV's network whose recorded graph has these parameters, null if they are a model's.
        nearest: nearest model, null if the tensors are those of a model or of such a network.
        module: the generated module that the tensors belong to.
        dtypes: number of arrays of each type, most frequent first.
        tensors: number of arrays.
        numbers: number of floating-point elements.
        sha1: SHA-1 of the unpacked file; null if only headers were read.
        official: model whose published file this is, false if there is none; null without a sha1.
        statistics: summaries by part and role; null if only headers were read.
        remark: what could not be determined, with the reason.
        graph: name of the graph that belongs to the parameters.
        graph_differences: differences between that graph and the model.
        state_dict: where the weights are in a PyTorch checkpoint.
        wrapping: how Gluon parameters differ from those that GluonCV saves.
        preprocessing: the normalization of images that was exported with the network.
        kind: kind of the file, null for a folder.
        converted: whether a manifest in the folder of the file records it as converted.
        trained: whether a manifest in the folder of the file records it as trained.
        verdict: what the file is and what to do with it, in one sentence.
        values: number of elements of every type.
        summary: contents of a graph.
        entries: files in a folder that concern networks, by name.
        others: number of the other files in a folder.
    """

    file: str
    bytes: int
    archive: str | None
    container: str | None
    records: tuple[str, ...]
    dialect: str | None
    prefix: str | None
    models: tuple[ModelRecord, ...]
    network: str | None
    nearest: str | None
    module: str | None
    dtypes: dict[str, int]
    tensors: int | None
    numbers: int | None
    sha1: str | None
    official: str | bool | None
    statistics: tuple[StatisticsRecord, ...] | None
    remark: str | None
    graph: str | None
    graph_differences: tuple[str, ...]
    state_dict: Location
    wrapping: WrappingRecord | None
    preprocessing: PreprocessingRecord | None
    kind: Kind | None
    converted: bool
    trained: bool
    verdict: str
    values: int | None
    summary: GraphContents | None
    entries: dict[str, EntryRecord] | None
    others: int


def document(inspection: Inspection) -> dict[str, Any]:
    """Return the inspection as a JSON-compatible dictionary."""
    record = InspectionRecord(
        file=inspection.file,
        bytes=inspection.size,
        archive=inspection.archive,
        container=inspection.container,
        records=inspection.records,
        dialect=inspection.dialect,
        prefix=inspection.prefix,
        models=_models(inspection),
        network=inspection.network,
        nearest=inspection.nearest,
        module=inspection.module,
        dtypes=dict(inspection.dtypes),
        tensors=inspection.tensors,
        numbers=inspection.numbers,
        sha1=inspection.sha1,
        official=inspection.official,
        statistics=_statistics(inspection),
        remark=inspection.remark,
        graph=inspection.graph,
        graph_differences=inspection.graph_differences,
        state_dict=inspection.location,
        wrapping=inspection.wrapping,
        preprocessing=inspection.preprocessing,
        kind=inspection.kind,
        converted=inspection.is_converted,
        trained=inspection.is_trained,
        verdict=inspection.verdict,
        values=inspection.values,
        summary=_summary(inspection.summary),
        entries=_entries(inspection),
        others=inspection.others,
    )
    result: dict[str, Any] = msgspec.to_builtins(record)
    return result


def _models(inspection: Inspection) -> tuple[ModelRecord, ...]:
    return tuple(
        ModelRecord(
            model=model.name,
            depths=model.config.depths,
            cardinality=model.config.cardinality,
            width=model.config.width,
            classes=model.config.num_classes,
            channels=model.config.in_chans,
            output_stride=model.config.output_stride,
        )
        for model in inspection.models
    )


def _statistics(inspection: Inspection) -> tuple[StatisticsRecord, ...] | None:
    if inspection.statistics is None:
        return None
    return tuple(
        StatisticsRecord(**{name: _finite(value) for name, value in asdict(row).items()})
        for row in inspection.statistics
    )


def _summary(summary: GraphSummary | None) -> GraphContents | None:
    if summary is None:
        return None
    names = [name for name in GraphContents.__struct_fields__ if name != "operators"]
    return GraphContents(
        operators=dict(summary.operators), **{name: getattr(summary, name) for name in names}
    )


def _entries(inspection: Inspection) -> dict[str, EntryRecord] | None:
    if inspection.entries is None:
        return None
    return {
        entry.name: EntryRecord(
            what=entry.what, kind=entry.kind, converted=entry.is_converted, trained=entry.is_trained
        )
        for entry in inspection.entries
    }


def _finite(value: Any) -> Any:  # noqa: ANN401 - the value of any field
    """Return the value, or None for a number that is not finite, which JSON cannot represent."""
    return value if not isinstance(value, float) or math.isfinite(value) else None
