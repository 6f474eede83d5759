"""Infers the number of axes of each node's output, which decides between BatchNorm1d and BatchNorm2d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.graphs.graph import VARIABLE

if TYPE_CHECKING:
    from converter.graphs.graph import Graph


def infer(graph: Graph) -> dict[int, int]:
    """Return the number of axes of the nodes' outputs, where the operators determine it."""
    sets = _Sets(len(graph.nodes))
    for index, node in enumerate(graph.nodes):
        operation = node.operation
        if operation.kind == VARIABLE:
            continue
        data = [source for source, _ in node.inputs[: operation.data_inputs]]
        if operation.keeps_rank:
            for source in data:
                sets.join(index, source)
        if operation.rank is not None:
            sets.set(index, operation.rank)
        if operation.input_rank is not None and data:
            sets.set(data[0], operation.input_rank)
    return {index: rank for index in range(len(graph.nodes)) if (rank := sets.rank(index)) is not None}


class _Sets:
    """Disjoint sets of nodes with equally many axes."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))
        self.ranks: dict[int, int] = {}

    def join(self, one: int, other: int) -> None:
        first, second = self._root(one), self._root(other)
        if first != second:
            self.parents[second] = first
            if second in self.ranks:
                self.ranks.setdefault(first, self.ranks.pop(second))

    def set(self, index: int, rank: int) -> None:
        self.ranks.setdefault(self._root(index), rank)

    def rank(self, index: int) -> int | None:
        return self.ranks.get(self._root(index))

    def _root(self, index: int) -> int:
        while self.parents[index] != index:
            self.parents[index] = self.parents[self.parents[index]]
            index = self.parents[index]
        return index
