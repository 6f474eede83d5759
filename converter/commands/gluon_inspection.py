"""Locate the network of Gluon parameters, match their graph, and say why they do not convert."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.commands import graph_summary, inspection_verdict
from converter.errors import ConversionError, DialectError, MappingError, StorageError, SymbolError
from converter.manifests import builder
from converter.networks import (
    detection,
    graph_matching,
    graph_search,
    graph_source,
    location,
    naming_styles,
    preparation,
    recorded_detection,
    resolution,
    verdicts,
)
from converter.networks.selection import ParamsSource

if TYPE_CHECKING:
    from pathlib import Path

    from converter.commands.inspection_result import Inspection
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.networks.location import LocatedNetwork
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.preparation import PreparedArrays


@dataclass(frozen=True, slots=True)
class GluonInspection:
    """The description of Gluon parameters, and the names of the network's parameters in the file."""

    inspection: Inspection
    naming: NamingStyle | None = None


def inspect(
    user_path: Path, documents: dict[str, bytes], arrays: Arrays, inspection: Inspection
) -> GluonInspection:
    """Add the network of the parameters and their graph to an inspection.

    Args:
        user_path: the file, or the archive that contains it.
        documents: the JSON files in the archive.
        arrays: the parameters by their names in the file.
        inspection: the description so far.
    """
    try:
        prepared = preparation.prepare(arrays, inspection.file)
    except (DialectError, MappingError) as error:
        return GluonInspection(inspection_verdict.with_refusal(inspection, error))
    locations = locate(prepared.arrays, str(user_path))
    if not locations:
        refusal = verdicts.no_match(prepared.arrays, inspection.file, None)
        inspection = inspection_verdict.with_refusal(inspection, refusal)
        naming = _naming(prepared.arrays, inspection.file)
    else:
        inspection = _with_network(locations, prepared, inspection)
        naming = locations[0].naming
    if naming is not None:
        inspection = replace(inspection, dialect=naming.dialect, prefix=naming.prefix or None)
    models = [each.model for each in locations]
    try:
        graph = graph_search.find(user_path, documents, arrays, naming, lambda: models)
    except (StorageError, SymbolError) as error:
        return GluonInspection(replace(inspection, graph_differences=tuple(str(error).split("\n"))), naming)
    if graph is None:
        if all(each.is_backbone for each in locations):
            inspection = _with_recorded(user_path, arrays, inspection)
        return GluonInspection(inspection, naming)
    if locations:
        return GluonInspection(with_graph(graph, locations, prepared, inspection), naming)
    command = graph_source.command(graph, str(user_path))
    summary = graph_summary.summarize(graph)
    inspection = replace(inspection, graph=graph.name)
    return GluonInspection(
        inspection_verdict.with_graph_of_other_network(inspection, summary, command), naming
    )


def locate(arrays: Arrays, file: str) -> list[LocatedNetwork]:
    """Return the networks that match, or those of them whose prefix the names have."""
    locations = location.locate(arrays, file)
    return [each for each in locations if detection.has_model_prefix(each.model, each.naming)] or locations


def _naming(arrays: Arrays, file: str) -> NamingStyle | None:
    """Return the naming style of parameters of no network, None if it is not one of Gluon's."""
    try:
        return naming_styles.read(arrays, file)
    except DialectError:
        return None


def _with_recorded(path: Path, arrays: Arrays, inspection: Inspection) -> Inspection:
    """Add the recorded network that the parameters are, if there is one."""
    try:
        name = recorded_detection.detect(arrays, "", inspection.file)
    except MappingError as error:
        return inspection_verdict.with_refusal(inspection, error)
    return inspection if name is None else inspection_verdict.with_recorded_network(inspection, path, name)


def _with_network(
    locations: list[LocatedNetwork], prepared: PreparedArrays, inspection: Inspection
) -> Inspection:
    """Add the networks, and the reason if ``convert auto`` refuses them."""
    first = locations[0]
    inspection = replace(
        inspection,
        models=tuple(dict.fromkeys(each.model for each in locations)),
        wrapping=builder.wrapping(first.wrapping, prepared.twins, first.model),
        preprocessing=builder.preprocessing(prepared.preprocessing),
    )
    try:
        resolution.require_usable(locations, ParamsSource(None), prepared.arrays, inspection.file)
    except ConversionError as error:
        return inspection_verdict.with_refusal(inspection, error)
    return inspection


def with_graph(
    graph: Graph, locations: list[LocatedNetwork], prepared: PreparedArrays, inspection: Inspection
) -> Inspection:
    """Keep the models that match a graph; if none does, record how it differs from the first."""
    inspection = replace(inspection, graph=graph.name)
    differences: list[str] = []
    matches: list[LocatedNetwork] = []
    for each in locations:
        try:
            matches.append(graph_matching.match(graph, each, prepared, any_stride=True)[0])
        except SymbolError as error:
            differences = differences or str(error).split("\n")
    if not matches:
        return replace(inspection, graph_differences=tuple(differences))
    return replace(
        inspection,
        models=tuple(dict.fromkeys(each.model for each in matches)),
        wrapping=builder.wrapping(matches[0].wrapping, prepared.twins, matches[0].model),
    )
