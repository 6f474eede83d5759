"""Compares one run of a generated module with a reference: end to end, and node by node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError
from converter.graphs.graph import VARIABLE, after_discrete, descendants
from converter.parity import samples
from converter.parity.comparison import depends_on_weights
from converter.parity.graph_rows import GraphRow, Part, difference, limit
from converter.parity.node_execution import NodeExecution

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import torch

    from converter.dtypes import Array
    from converter.graphs.graph import Entry, Graph
    from converter.parity.graph_proof import ConvertedGraph
    from converter.parity.module_execution import ModuleOutputs

BIASES = ("bias", "beta")  # roles of the parameter that is added to a layer's output


@dataclass(slots=True, kw_only=True)
class RunComparison:
    """The comparison of one run."""

    converted: ConvertedGraph
    net: torch.nn.Module
    run: int
    dtype: str
    inputs: Mapping[str, Array]
    heads: dict[int, Array] = field(default_factory=dict)  # the reference's outputs
    sampled: int = 0  # the rows with samples
    live: set[Entry] = field(init=False)  # the outputs whose values are needed
    discrete: set[int] = field(init=False)  # the nodes that depend on a discrete operator
    single: set[int] = field(init=False)  # those that depend on one that MXNet computes in float32

    def __post_init__(self) -> None:
        nodes = self.graph.nodes
        self.live = _live(self.graph)
        self.discrete = after_discrete(nodes)
        self.single = descendants(
            nodes, [i for i, node in enumerate(nodes) if node.operation.precision == "float32"]
        )

    @property
    def graph(self) -> Graph:
        """The part of the graph for inference."""
        return self.converted.pruned.graph

    def rows(
        self, computed: ModuleOutputs, outputs: Iterator[tuple[int, tuple[Array, ...]]]
    ) -> list[GraphRow]:
        """Compare every output of the reference as it comes: with the module's, and with the node's."""
        layers = _first_uses(self.converted.module.layers)
        execution = self._execution()
        by_index: dict[int, GraphRow] = {}
        nodes: dict[int, GraphRow | None] = {}
        heads: dict[int, GraphRow] = {}
        for index, arrays in _inputs_first(self.graph, outputs):
            if index in layers:
                output = np.load(computed.layers[layers[index]], mmap_mode="r")
                row = self._row(index, arrays[0], output, layers[index])
                by_index[index] = replace(row, vacuous=self._is_vacuous(index, arrays[0], row))
            for place, (node, number) in enumerate(self.graph.outputs):
                if node == index:
                    self.heads[place] = arrays[number]
                    heads[place] = self._row(index, arrays[number], computed.heads[place])
            nodes[index] = self._node_row(index, arrays, execution.compute(index))
            execution.store(index, arrays)
        self._require_complete(nodes)
        heads |= self._variables(computed)
        return [
            *(row for _, row in sorted(nodes.items()) if row),
            *self._composition(computed),
            *(by_index[index] for index in sorted(by_index)),
            *(heads[place] for place in sorted(heads)),
        ]

    def _variables(self, computed: ModuleOutputs) -> dict[int, GraphRow]:
        """Compare the outputs that are inputs or parameters."""
        rows = {}
        for place, (index, _) in enumerate(self.graph.outputs):
            node = self.graph.nodes[index]
            if node.operation.kind == VARIABLE:
                given = self.inputs if node.name in self.inputs else self.converted.parameters
                self.heads[place] = np.asarray(given[node.name]).astype(self.dtype)
                rows[place] = self._row(index, self.heads[place], computed.heads[place])
        return rows

    def _require_complete(self, nodes: Collection[int]) -> None:
        """Check that the reference has computed every node.

        Raises:
            ParityError: if a node is missing; the message names the first.
        """
        for index, node in enumerate(self.graph.nodes):
            if node.operation.kind != VARIABLE and index not in nodes:
                count = node.operation.outputs
                raise ParityError(f"{node.name}: the reference did not compute its {count} outputs")

    def _execution(self) -> NodeExecution:
        return NodeExecution(graph=self.graph, module=self.converted.module, net=self.net, inputs=self.inputs)

    def _row(self, index: int, expected: Array, output: Array, layer: str = "") -> GraphRow:
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
        return self._with_samples(row, expected, output)

    def _with_samples(self, row: GraphRow, expected: Array, output: Array) -> GraphRow:
        """Add values of both outputs to the first rows that failed."""
        if row.passed or self.sampled >= samples.MAX_LAYERS:
            return row
        self.sampled += 1
        return replace(row, samples=samples.select(expected, output))

    def _is_vacuous(self, index: int, expected: Array, row: GraphRow) -> bool:
        """Return whether the output of a layer with weights does not depend on them."""
        node = self.graph.nodes[index]
        roles = node.operation.roles
        entries = node.inputs[len(node.inputs) - len(roles) :]
        parameters = {
            role: self.graph.nodes[source].name for role, (source, _) in zip(roles, entries, strict=True)
        }
        if not parameters:
            return False
        bias = next((parameters[role] for role in BIASES if role in parameters), None)
        known = bias in self.converted.parameters and expected.ndim > 1
        array = np.asarray(self.converted.parameters[bias]) if bias and known else None
        if array is not None:
            expected = np.moveaxis(expected, node.operation.bias_axis, 1)
        return not depends_on_weights(expected, row.difference.reference, array)

    def _node_row(self, index: int, expected: tuple[Array, ...], outputs: Sequence[Array]) -> GraphRow | None:
        node = self.graph.nodes[index]
        live = [number for number in range(len(expected)) if (index, number) in self.live]
        differences = {number: difference(expected[number], outputs[number]) for number in live}
        if not differences:
            return None
        worst = max(differences, key=lambda number: differences[number].relative)
        row = GraphRow(
            dtype=self.dtype,
            node=node.name,
            operator=node.operator,
            layer=self.converted.module.layers.get(index, ""),
            difference=differences[worst],
            run=self.run,
            limit=limit(self.dtype, single=node.operation.precision == "float32"),
            part=Part.node,
            index=index,
        )
        return self._with_samples(row, expected[worst], outputs[worst])

    def _composition(self, computed: ModuleOutputs) -> Iterator[GraphRow]:
        """Compare outputs after discrete operators with those of the nodes computed one after another.

        There the reference may differ because of a rounding. That the module applies its nodes in the
        order of the graph is proven without it: both sides compute the same numbers.
        """
        places = [place for place, (index, _) in enumerate(self.graph.outputs) if index in self.discrete]
        if not places:
            return
        wanted: dict[Entry, Array] = {}
        for index, outputs in self._execution().run():
            wanted |= {
                (index, number): array
                for number, array in enumerate(outputs)
                if (index, number) in self.graph.outputs
            }
        for place in places:
            entry = self.graph.outputs[place]
            row = GraphRow(
                dtype=self.dtype,
                node=self.graph.nodes[entry[0]].name,
                operator=self.graph.nodes[entry[0]].operator,
                layer="",
                difference=difference(wanted[entry], computed.heads[place]),
                run=self.run,
                limit=limit(self.dtype, single=False),
                part=Part.composition,
                index=entry[0],
            )
            yield self._with_samples(row, wanted[entry], computed.heads[place])


def _live(graph: Graph) -> set[Entry]:
    """Return the outputs whose values are needed; MXNet does not initialize the memory of the others."""
    live = set(graph.outputs)
    for index, node in reversed([*enumerate(graph.nodes)]):
        if any((index, number) in live for number in range(node.operation.outputs)):
            unread = node.operation.shapes_only
            live.update(entry for place, entry in enumerate(node.inputs) if place not in unread)
    return live


def _inputs_first(
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


def _first_uses(layers: Mapping[int, str]) -> dict[int, str]:
    """Return the layers with the first node that uses each."""
    first: dict[str, int] = {}
    for index, layer in layers.items():
        first.setdefault(layer, index)
    return {index: layer for layer, index in first.items()}
