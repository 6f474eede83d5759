"""Compares one run of a generated module with a reference: end to end, and node by node."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from converter.parity import generated_network, module_execution
from converter.parity.graph_comparisons import GraphComparisons, inputs_first
from converter.parity.graph_rows import GraphRow, Part, difference, limit
from converter.parity.node_execution import NodeExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from converter.dtypes import Array
    from converter.graphs.graph import Entry, Graph
    from converter.parity.graph_proof import ConvertedGraph
    from converter.parity.module_execution import ModuleOutputs

    Network = Callable[[str], torch.nn.Module]


@dataclass(frozen=True, slots=True)
class GeneratedSide:
    """A generated module, compared with its graph.

    Attributes:
        converted: the graph and the module.
        network: returns the network in a precision; by default the module with the graph's parameters.
    """

    converted: ConvertedGraph
    network: Network | None = None

    @contextlib.contextmanager
    def begin(self, run: int, dtype: str, inputs: Mapping[str, Array]) -> Iterator[RunComparison]:
        """Run the module, and yield the comparison of what it computed.

        Raises:
            ParityError: if the module does not take the inputs, or if its outputs are not finite.
        """
        converted = self.converted
        if self.network:
            net = self.network(dtype)
        else:
            net = generated_network.load(converted.module, converted.parameters, dtype)
        with module_execution.run(converted.module, net, inputs) as computed:
            yield RunComparison(
                converted=converted, run=run, dtype=dtype, inputs=inputs, computed=computed, net=net
            )


@dataclass(slots=True, kw_only=True)
class RunComparison(GraphComparisons):
    """The comparison of one run of a generated module.

    Attributes:
        computed: what the module computed.
        net: its network.
    """

    computed: ModuleOutputs
    net: torch.nn.Module
    live: set[Entry] = field(init=False)  # the outputs whose values are needed

    def __post_init__(self) -> None:
        """Find what is compared."""
        GraphComparisons.__post_init__(self)  # super() needs the class before slots replaced it
        self.live = _live(self.graph)

    def rows(self, outputs: Iterator[tuple[int, tuple[Array, ...]]]) -> list[GraphRow]:
        """Compare every output of the reference as it comes: with the module's, and with the node's."""
        computed = self.computed
        layers = _first_uses(self.converted.module.layers)
        execution = self._execution()
        by_index: dict[int, GraphRow] = {}
        nodes: dict[int, GraphRow | None] = {}
        heads: dict[int, GraphRow] = {}
        for index, arrays in inputs_first(self.graph, outputs):
            if index in layers:
                output = np.load(computed.layers[layers[index]], mmap_mode="r")
                row = self.row(index, arrays[0], output, layers[index])
                by_index[index] = replace(row, vacuous=self.is_vacuous(index, arrays[0], row))
            for place, (node, number) in enumerate(self.graph.outputs):
                if node == index:
                    self.heads[place] = arrays[number]
                    heads[place] = self.row(index, arrays[number], computed.heads[place])
            nodes[index] = self._node_row(index, arrays, execution.compute(index))
            execution.store(index, arrays)
        self.require_complete(nodes)
        heads |= self.variables(computed.heads)
        return [
            *(row for _, row in sorted(nodes.items()) if row),
            *self._composition(computed),
            *(by_index[index] for index in sorted(by_index)),
            *(heads[place] for place in sorted(heads)),
        ]

    def _execution(self) -> NodeExecution:
        return NodeExecution(graph=self.graph, module=self.converted.module, net=self.net, inputs=self.inputs)

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
        return self.with_samples(row, expected[worst], outputs[worst])

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
            yield self.with_samples(row, wanted[entry], computed.heads[place])


def _live(graph: Graph) -> set[Entry]:
    """Return the outputs whose values are needed; MXNet does not initialize the memory of the others."""
    live = set(graph.outputs)
    for index, node in reversed([*enumerate(graph.nodes)]):
        if any((index, number) in live for number in range(node.operation.outputs)):
            unread = node.operation.shapes_only
            live.update(entry for place, entry in enumerate(node.inputs) if place not in unread)
    return live


def _first_uses(layers: Mapping[int, str]) -> dict[int, str]:
    """Return the layers with the first node that uses each."""
    first: dict[str, int] = {}
    for index, layer in layers.items():
        first.setdefault(layer, index)
    return {index: layer for layer, index in first.items()}
