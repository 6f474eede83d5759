"""Compares outputs of a network with those of a graph, as a reference computes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError
from converter.graphs.graph import VARIABLE, after_discrete, descendants
from converter.parity import samples
from converter.parity.comparison import depends_on_weights
from converter.parity.graph_rows import GraphRow, difference, limit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from converter.dtypes import Array
    from converter.graphs.graph import Graph
    from converter.parity.graph_proof import ConvertedGraph

BIASES = ("bias", "beta")  # roles of the parameter that is added to a layer's output


@dataclass(slots=True, kw_only=True)
class GraphComparisons:
    """The comparisons of one run.

    Attributes:
        converted: the graph and its parameters.
        run: the number of the run.
        dtype: its precision.
        inputs: its inputs, by name.
        heads: the reference's outputs, by their places.
        sampled: the number of rows with samples.
        discrete: the nodes that depend on a discrete operator.
        single: those that depend on one that MXNet computes in float32.
    """

    converted: ConvertedGraph
    run: int
    dtype: str
    inputs: Mapping[str, Array]
    heads: dict[int, Array] = field(default_factory=dict)
    sampled: int = 0
    discrete: set[int] = field(init=False)
    single: set[int] = field(init=False)

    def __post_init__(self) -> None:
        """Find the nodes that are held to other limits."""
        nodes = self.graph.nodes
        self.discrete = after_discrete(nodes)
        self.single = descendants(
            nodes, [i for i, node in enumerate(nodes) if node.operation.precision == "float32"]
        )

    @property
    def graph(self) -> Graph:
        """The part of the graph for inference."""
        return self.converted.pruned.graph

    def variables(self, computed: Sequence[Array]) -> dict[int, GraphRow]:
        """Compare the outputs that are inputs or parameters with those that were computed."""
        rows = {}
        for place, (index, _) in enumerate(self.graph.outputs):
            node = self.graph.nodes[index]
            if node.operation.kind == VARIABLE:
                given = self.inputs if node.name in self.inputs else self.converted.parameters
                self.heads[place] = np.asarray(given[node.name]).astype(self.dtype)
                rows[place] = self.row(index, self.heads[place], computed[place])
        return rows

    def require_complete(self, nodes: Collection[int]) -> None:
        """Check that the reference has computed every node.

        Raises:
            ParityError: if a node is missing; the message names the first.
        """
        for index, node in enumerate(self.graph.nodes):
            if node.operation.kind != VARIABLE and index not in nodes:
                count = node.operation.outputs
                raise ParityError(f"{node.name}: the reference did not compute its {count} outputs")

    def row(self, index: int, expected: Array, output: Array, layer: str = "") -> GraphRow:
        """Compare an output of a node with that of a layer or of the network, end to end."""
        row = GraphRow(
            dtype=self.dtype,
            node=self.graph.nodes[index].name,
            operator=self.graph.nodes[index].operator,
            layer=layer,
            difference=difference(expected, output),
            run=self.run,
            limit=limit(self.dtype, single=index in self.single),
            decisive=index not in self.discrete,
            index=index,
        )
        return self.with_samples(row, expected, output)

    def with_samples(self, row: GraphRow, expected: Array, output: Array) -> GraphRow:
        """Add values of both outputs to the first rows that failed."""
        if row.passed or self.sampled >= samples.MAX_LAYERS:
            return row
        self.sampled += 1
        return replace(row, samples=samples.select(expected, output))

    def is_vacuous(self, index: int, expected: Array, row: GraphRow) -> bool:
        """Return whether the output of a layer with weights does not depend on them."""
        node = self.graph.nodes[index]
        parameters = self.graph.parameters_of(node)
        if not parameters:
            return False
        bias = next((parameters[role] for role in BIASES if role in parameters), None)
        known = bias in self.converted.parameters and expected.ndim > 1
        array = np.asarray(self.converted.parameters[bias]) if bias and known else None
        if array is not None:
            expected = np.moveaxis(expected, node.operation.bias_axis, 1)
        return not depends_on_weights(expected, row.difference.reference, array)


def inputs_first(
    graph: Graph, outputs: Iterator[tuple[int, tuple[Array, ...]]]
) -> Iterator[tuple[int, tuple[Array, ...]]]:
    """Yield nodes after those that they take inputs from; MXNet may replace one by a constant, earlier."""
    done = {index for index, node in enumerate(graph.nodes) if node.operation.kind == VARIABLE}
    waiting: dict[int, tuple[Array, ...]] = {}
    for node, arrays in outputs:
        waiting[node] = arrays
        while ready := [
            index for index in waiting if all(source in done for source, _ in graph.nodes[index].inputs)
        ]:
            done.update(ready)
            yield from ((index, waiting.pop(index)) for index in sorted(ready))
