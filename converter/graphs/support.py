"""Checks that every operator of a graph can be converted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from converter import names
from converter.errors import SymbolError
from converter.graphs import dtypes
from converter.graphs.graph import VARIABLE

if TYPE_CHECKING:
    from converter.graphs.graph import Graph

MAX_LINES = 30  # of an error


def unsupported(graph: Graph) -> dict[tuple[str, str], list[str]]:
    """Return the names of the nodes that cannot be converted, by operator and reason."""
    integers = dtypes.integers(graph)
    nodes: dict[tuple[str, str], list[str]] = {}
    for node in graph.nodes:
        reason = ""
        if node.operation.kind != VARIABLE and node.operation.code is None:
            reason = node.operation.refused or "unknown operator"
        elif node.operation.floating_only and not integers.isdisjoint(node.inputs):
            reason = "integers as inputs are not supported"
        if reason:
            nodes.setdefault((node.operator, reason), []).append(node.name)
    return nodes


def operator_counts(graph: Graph) -> Counter[str]:
    """Return the number of nodes of each operator."""
    return Counter(node.operator for node in graph.nodes if node.operation.kind != VARIABLE)


def require(graph: Graph) -> None:
    """Check that every operator has code, and that no two variables have the same name.

    Raises:
        SymbolError: with every operator that has none, and the reason; with the names of several variables.
    """
    counts = Counter(node.name for node in graph.nodes if node.operation.kind == VARIABLE)
    if repeated := [f"{name} ({count})" for name, count in counts.items() if count > 1]:
        lines = [f"{graph.file}: several variables have the same name", *names.shorten(repeated, MAX_LINES)]
        raise SymbolError("\n  ".join(lines))
    nodes = unsupported(graph)
    if not nodes:
        return
    width = max(len(operator) for operator, _ in nodes)
    lines = [
        f"{operator:{width}}  {reason} (nodes: {len(each)}, first {each[0]})"
        for (operator, reason), each in sorted(nodes.items())
    ]
    raise SymbolError(
        "\n  ".join(
            [
                f"{graph.file}: operators that cannot be converted: {len({name for name, _ in nodes})}",
                *names.shorten(lines, MAX_LINES),
                "--output NODE converts the part of the graph before them",
            ]
        )
    )
