"""Infers which values of a graph are integers; the inputs, parameters and labels count as floating."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.graphs.graph import Entry, Graph


def integers(graph: Graph) -> set[Entry]:
    """Return the entries that are integers."""
    found: set[Entry] = set()
    for index, node in enumerate(graph.nodes):
        operation = node.operation
        outputs = range(operation.outputs)
        if operation.integers is not None:
            found.update((index, number) for number in operation.integers)
        elif operation.typed_by < len(node.inputs) and node.inputs[operation.typed_by] in found:
            found.update((index, number) for number in outputs)
    return found
