"""Rewrite a graph without some of its nodes: casts, or an exported preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converter.graphs import dtypes, reader
from converter.graphs.graph import CAST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.graph import Entry, Graph


def casts(graph: Graph) -> dict[Entry, Entry]:
    """Return the output of every cast between floating types, and the entry that it casts."""
    integers = dtypes.integers(graph)
    return {
        (index, output): entry
        for index, node in enumerate(graph.nodes)
        if node.operation.kind == CAST
        for output, entry in enumerate(node.inputs)
        if entry not in integers
    }


def resolve(bypasses: Mapping[Entry, Entry]) -> dict[Entry, Entry]:
    """Return bypasses whose targets are not bypassed themselves."""
    resolved: dict[Entry, Entry] = {}
    for entry in sorted(bypasses):  # a target comes before the entry that it replaces
        target = bypasses[entry]
        resolved[entry] = resolved.get(target, target)
    return resolved


def bypass(graph: Graph, bypasses: Mapping[Entry, Entry]) -> Graph:
    """Return the graph with the given entries redirected.

    Args:
        graph: the graph.
        bypasses: {entry: the earlier entry that takes its place}.
    """
    numbers = [node.number for node in graph.nodes]
    by_number = {
        (numbers[index], output): (numbers[target], target_output)
        for (index, output), (target, target_output) in resolve(bypasses).items()
    }
    document: dict[str, Any] = msgspec.json.decode(graph.content)
    for node in document["nodes"]:
        node["inputs"] = [_redirected(entry, by_number) for entry in node["inputs"]]
    document["heads"] = [_redirected(entry, by_number) for entry in document["heads"]]
    content = msgspec.json.encode(document)
    return reader.parse(content, file=graph.file, name=graph.name, path=graph.path)


def _redirected(entry: list[int], bypasses: Mapping[Entry, Entry]) -> list[int]:
    number, output, *version = entry
    return [*bypasses.get((number, output), (number, output)), *version]
