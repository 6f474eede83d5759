"""Describe a graph: inputs, outputs, operators, parameters, and the networks that it is the graph of."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.commands import gluon_inspection, graph_summary, inspection_verdict
from converter.errors import ConversionError
from converter.formats import detect
from converter.formats.params import open_params
from converter.graphs import operators, reader
from converter.networks import catalog, preparation, wiring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.commands.inspection_result import Inspection
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model


def inspect(path: Path, inspection: Inspection) -> Inspection:
    """Add the contents of a graph to an inspection.

    Raises:
        SymbolError: if the file is not a graph.
        StorageError: if it cannot be read.
    """
    graph = reader.read(path)
    inspection = replace(inspection, models=tuple(_models(graph)), summary=graph_summary.summarize(graph))
    if not inspection.models:
        inspection = _with_parameters(graph, path, inspection)
    return replace(inspection, verdict=inspection_verdict.of_graph(inspection, path))


def _with_parameters(graph: Graph, path: Path, inspection: Inspection) -> Inspection:
    """Match a graph with the network of the parameters next to it."""
    found = detect.parameters_of(path)
    if not found:
        return inspection
    with contextlib.suppress(ConversionError):  # the graph is described without them
        prepared = preparation.prepare(open_params(found[0]).arrays, found[0].name)
        if locations := gluon_inspection.locate(prepared.arrays, str(found[0])):
            return gluon_inspection.with_graph(graph, locations, prepared, inspection)
    return inspection


def _models(graph: Graph) -> Iterator[Model]:
    """Yield the models that a graph matches, with its number of classes."""
    heads = [node.operation for node in graph.nodes if node.operation.kind == operators.DENSE]
    classes = heads[-1].settings["outputs"] if heads else None
    if not isinstance(classes, int) or classes < 1:
        return
    for candidate in catalog.models().values():
        model = candidate.with_config(num_classes=classes)
        with contextlib.suppress(ConversionError):
            yield wiring.match_any_stride(graph, model)[0]
