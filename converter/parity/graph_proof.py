"""Compares a generated module with MXNet's outputs of its graph: end to end, and node by node."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import MappingError, ParityError, SymbolError
from converter.graphs.graph import VARIABLE, descendants
from converter.parity import module_execution
from converter.parity.comparison import depends_on_weights
from converter.parity.graph_outputs import ArrayOutputs, MXNetOutputs
from converter.parity.graph_rows import Difference, GraphProof, GraphRow, Part, difference, limit
from converter.parity.node_execution import REFUSALS, NodeExecution, namespace
from converter.references import symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Entry, Graph
    from converter.graphs.pruning import InferenceGraph
    from converter.parity.graph_outputs import GraphReference, Run
    from converter.parity.module_execution import ModuleOutputs

    Network = Callable[[str], torch.nn.Module]


BIASES = ("bias", "beta")  # roles of the parameter that is added to a layer's output


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedGraph:
    """A graph with parameters, and the module generated from it.

    Attributes:
        whole: the whole graph, which MXNet runs.
        pruned: its part for inference.
        module: the module generated from that part.
        parameters: the values of the graph's parameters.
    """

    whole: Graph
    pruned: InferenceGraph
    module: GeneratedModule
    parameters: Arrays


def prove(
    converted: ConvertedGraph, runs: Sequence[Run], python: Path, network: Network | None = None
) -> GraphProof:
    """Run a graph in MXNet and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        python: an interpreter with MXNet.
        network: returns the network in a precision; by default the module with the graph's parameters.

    Raises:
        ReferenceUnavailableError: if MXNet cannot run.
        ReferenceFailedError: if MXNet refuses the graph or the inputs.
        ParityError: if the module does not take the inputs, or if its outputs are not finite.
    """
    with symbol.start(python, request(converted, runs)) as child:
        rows, heads = compare(converted, runs, MXNetOutputs(child, converted.pruned), network)
        versions, replaced, rewriting = child.reply()
    return GraphProof(
        comparisons=rows, versions=versions, heads=heads, replaced=replaced, rewriting=rewriting
    )


def prove_on_arrays(
    converted: ConvertedGraph, runs: Sequence[Run], network: Network | None = None
) -> GraphProof:
    """Run a graph on arrays and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.

    Raises:
        ParityError: if the module does not take the inputs, if its outputs are not finite, or if the
            arrays need more memory than there is.
    """
    versions = {"numpy": np.__version__, "python": platform.python_version()}
    reference = ArrayOutputs(converted.pruned.graph, converted.parameters, runs)
    try:
        rows, heads = compare(converted, runs, reference, network)
    except MemoryError as error:
        raise ParityError(f"{converted.whole.file}: not enough memory for the graph on arrays") from error
    return GraphProof(comparisons=rows, versions=versions, heads=heads)


def compare(
    converted: ConvertedGraph,
    runs: Sequence[Run],
    reference: GraphReference,
    network: Network | None = None,
) -> tuple[tuple[GraphRow, ...], tuple[tuple[Array, ...], ...]]:
    """Compare a generated module with a reference in every run; return the reference's outputs, too.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        reference: the expected outputs.

    Raises:
        ParityError: if the module does not take the inputs, if its outputs are not finite, or if the
            reference lacks a node.
    """
    rows: dict[int, list[GraphRow]] = {}
    heads: dict[int, tuple[Array, ...]] = {}
    for number in reference.order:
        outputs = reference.outputs(number)  # first: if the reference refuses the inputs, that is the error
        dtype, inputs = runs[number]
        net = network(dtype) if network else load(converted.module, converted.parameters, dtype)
        with module_execution.run(converted.module, net, inputs) as computed:
            comparison = _RunComparison(converted=converted, net=net, run=number, dtype=dtype, inputs=inputs)
            rows[number] = comparison.rows(computed, outputs)
            heads[number] = tuple(comparison.heads[place] for place in sorted(comparison.heads))
    in_order = sorted(rows)
    return tuple(row for number in in_order for row in rows[number]), tuple(heads[each] for each in in_order)


def request(converted: ConvertedGraph, runs: Sequence[Run]) -> symbol.SymbolRequest:
    """Return the request to run the inference part of a graph in MXNet.

    The rewriting is compared in the outputs; where these depend on a discrete operator, in its inputs.
    """
    origins, graph = converted.pruned.origins, converted.pruned.graph
    operators = {index for index, node in enumerate(graph.nodes) if node.operation.kind != VARIABLE}
    discrete = {index for index in operators if graph.nodes[index].operation.discrete}
    after = descendants(graph.nodes, discrete)
    inputs = [entry for index in sorted(discrete) for entry in graph.nodes[index].inputs]
    ends = [*graph.outputs, *(entry for entry in inputs if entry[0] in operators)]
    compared = dict.fromkeys(entry for entry in ends if entry[0] not in after)
    return symbol.SymbolRequest(
        graph=converted.whole,
        parameters=converted.parameters,
        heads=[(origins[index], number) for index, number in graph.outputs],
        compared=[(origins[index], number) for index, number in compared],
        nodes=[origins[index] for index in sorted(operators)],
        single=[
            origins[index]
            for index in sorted(operators)
            if graph.nodes[index].operation.precision == "float32"
        ],
        runs=runs,
    )


@dataclass(slots=True, kw_only=True)
class _RunComparison:
    """The comparison of one run."""

    converted: ConvertedGraph
    net: torch.nn.Module
    run: int
    dtype: str
    inputs: Mapping[str, Array]
    heads: dict[int, Array] = field(default_factory=dict)  # the reference's outputs
    live: set[Entry] = field(init=False)  # the outputs whose values are needed
    discrete: set[int] = field(init=False)  # the nodes that depend on a discrete operator
    single: set[int] = field(init=False)  # those that depend on one that MXNet computes in float32

    def __post_init__(self) -> None:
        nodes = self.graph.nodes
        self.live = _live(self.graph)
        self.discrete = descendants(nodes, [i for i, node in enumerate(nodes) if node.operation.discrete])
        self.single = descendants(
            nodes, [i for i, node in enumerate(nodes) if node.operation.precision == "float32"]
        )

    @property
    def graph(self) -> Graph:
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
                row = self._row(index, difference(arrays[0], output), layers[index])
                by_index[index] = replace(row, vacuous=self._is_vacuous(index, arrays[0], row))
            for place, (node, number) in enumerate(self.graph.outputs):
                if node == index:
                    self.heads[place] = arrays[number]
                    heads[place] = self._row(index, difference(arrays[number], computed.heads[place]))
            nodes[index] = self._node_row(index, arrays, execution.compute(index))
            execution.store(index, arrays)
        self._require_complete(nodes)
        return [
            *(row for _, row in sorted(nodes.items()) if row),
            *self._composition(computed),
            *(by_index[index] for index in sorted(by_index)),
            *(heads[place] for place in sorted(heads)),
        ]

    def _require_complete(self, nodes: Collection[int]) -> None:
        """Check that the reference has computed every node.

        Raises:
            ParityError: with the first that it has not.
        """
        for index, node in enumerate(self.graph.nodes):
            if node.operation.kind != VARIABLE and index not in nodes:
                count = node.operation.outputs
                raise ParityError(f"{node.name}: the reference did not compute its {count} outputs")

    def _execution(self) -> NodeExecution:
        return NodeExecution(graph=self.graph, module=self.converted.module, net=self.net, inputs=self.inputs)

    def _row(self, index: int, found: Difference, layer: str = "") -> GraphRow:
        return GraphRow(
            dtype=self.dtype,
            node=self.graph.nodes[index].name,
            operator=self.graph.nodes[index].operator,
            layer=layer,
            difference=found,
            run=self.run,
            limit=limit(self.dtype, single=index in self.single),
            decisive=index not in self.discrete,
        )

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
        return not depends_on_weights(expected, row.difference.reference, array)

    def _node_row(self, index: int, expected: tuple[Array, ...], outputs: Sequence[Array]) -> GraphRow | None:
        node = self.graph.nodes[index]
        found = [
            difference(one, other)
            for number, (one, other) in enumerate(zip(expected, outputs, strict=True))
            if (index, number) in self.live
        ]
        if not found:
            return None
        return GraphRow(
            dtype=self.dtype,
            node=node.name,
            operator=node.operator,
            layer=self.converted.module.layers.get(index, ""),
            difference=max(found, key=lambda each: each.relative),
            run=self.run,
            limit=limit(self.dtype, single=node.operation.precision == "float32"),
            part=Part.node,
        )

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
            yield GraphRow(
                dtype=self.dtype,
                node=self.graph.nodes[entry[0]].name,
                operator=self.graph.nodes[entry[0]].operator,
                layer="",
                difference=difference(wanted[entry], computed.heads[place]),
                run=self.run,
                limit=limit(self.dtype, single=False),
                part=Part.composition,
            )


def load(module: GeneratedModule, parameters: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of a generated module with parameters, in evaluation mode.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
        MappingError: if the parameters have other shapes than the layers.
    """
    return build(module, dict(state_arrays(module, parameters)), dtype)


def build(module: GeneratedModule, state: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of a generated module with a state dict, in evaluation mode.

    Its layers get no memory of their own, whatever their sizes, but the given arrays.

    Raises:
        SymbolError: if PyTorch refuses the attributes of a layer.
        MappingError: if the arrays have other shapes than the layers.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.parity.empty_layers import EmptyLayers  # noqa: PLC0415 - imports torch

    try:
        with EmptyLayers():
            net: torch.nn.Module = namespace(module.source)["Network"]()
    except REFUSALS as error:
        raise SymbolError(f"PyTorch refuses the attributes of a layer: {error}") from error
    kind = getattr(torch, dtype)
    arrays = ((name, np.asarray(array)) for name, array in state.items())
    try:
        net.load_state_dict({name: torch.from_numpy(array).to(kind) for name, array in arrays}, assign=True)
    except RuntimeError as error:
        raise MappingError(f"the parameters do not fit the graph: {error}") from error
    return net.to(kind).eval()


def state_arrays(module: GeneratedModule, parameters: Arrays) -> Iterator[tuple[str, AnyArray]]:
    """Yield the state dict of a generated module; gammas that MXNet fixes are ones."""
    for variable, name in module.tensors.items():
        array = parameters[variable]
        yield name, np.ones(array.shape, array.dtype) if variable in module.ones else array


def _live(graph: Graph) -> set[Entry]:
    """Return the outputs whose values are needed; MXNet leaves memory of others as it finds it."""
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
