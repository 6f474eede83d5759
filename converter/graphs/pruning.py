"""Reduces a graph to what inference needs: no labels, no heads that exist for training only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter import names
from converter.errors import SymbolError
from converter.graphs.graph import VARIABLE, descendants
from converter.graphs.operators.losses import REGRESSIONS
from converter.graphs.reader import depth_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from converter.graphs.graph import Entry, Graph, Node

MAX_LINES = 10  # of an error
SUFFIX = "_output"  # MXNet's name of a node's output is the node's name with it


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceGraph:
    """A graph without its training parts.

    Attributes:
        graph: the graph.
        origins: the index of each of its nodes in the whole graph.
        labels: the names of the labels that are no longer inputs.
        heads: the names of the outputs that were left out.
        output: the name of the node that was requested as its end, None for the outputs in the file.
    """

    graph: Graph
    origins: tuple[int, ...]
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    output: str | None = None


def prune(graph: Graph, output: str | None = None) -> InferenceGraph:
    """Remove labels, and the outputs that depend on them.

    Args:
        graph: the whole graph.
        output: the name of a node; the graph then ends in its outputs.

    Raises:
        SymbolError: if no node or several have that name, or if every output depends on a label.
    """
    chosen = graph.outputs if output is None else _outputs_of(graph, output)
    nodes = [_without_label(node) for node in graph.nodes]
    labels = _labels(graph, nodes)
    roots = {*labels, *(index for index, node in enumerate(nodes) if node.operation.is_loss)}
    training = descendants(nodes, roots)
    kept = tuple(entry for entry in chosen if entry[0] not in training)
    if not kept:
        found = names.shorten(sorted({graph.nodes[index].name for index in roots}), MAX_LINES)
        raise SymbolError(
            f"{graph.file}: every output depends on a label or a loss: it is a graph for training\n"
            f"  found  {', '.join(found)}\n"
            "  try    --output NODE, the last node before the loss"
        )
    if all(nodes[index].operation.kind == VARIABLE for index, _ in kept):
        raise SymbolError(f"{graph.file}: computes nothing: its outputs are inputs or parameters")
    order = depth_first([node.inputs for node in nodes], kept)
    place = {old: new for new, old in enumerate(order)}
    reduced = replace(
        graph,
        nodes=tuple(
            replace(nodes[old], inputs=tuple((place[index], number) for index, number in nodes[old].inputs))
            for old in order
        ),
        outputs=tuple((place[index], number) for index, number in kept),
    )
    return InferenceGraph(
        graph=reduced,
        origins=tuple(order),
        labels=_names(graph, (index for index in labels if index not in place)),
        heads=_names(graph, (index for index, _ in graph.outputs if index in training)),
        output=graph.nodes[chosen[0][0]].name if output else None,
    )


def _outputs_of(graph: Graph, name: str) -> tuple[Entry, ...]:
    """Return the outputs of the node with a name, which may have MXNet's suffix."""
    found = [
        index for index, node in enumerate(graph.nodes) if node.name in {name, name.removesuffix(SUFFIX)}
    ]
    shown = names.printable(names.clipped(name))
    if len(found) == 1:
        (index,) = found
        if graph.nodes[index].operation.kind == VARIABLE:
            raise SymbolError(f"{graph.file}: {shown} is an input or a parameter, not the output of a node")
        return tuple((index, number) for number in range(graph.nodes[index].operation.outputs))
    if found:
        raise SymbolError(f"{graph.file}: {len(found)} nodes are named {shown}")
    operators = [node.name for node in graph.nodes if node.operation.kind != VARIABLE]
    last = "\n  ".join(names.shorten(operators[-MAX_LINES:][::-1], MAX_LINES))
    raise SymbolError(f"{graph.file}: no node is named {shown}\nThe last nodes are\n  {last}")


def _without_label(node: Node) -> Node:
    if not node.operation.takes_label:
        return node
    count = (node.operation.data_inputs or 1) - 1
    operation = replace(node.operation, data_inputs=count, takes_label=False)
    return replace(node, operation=operation, inputs=node.inputs[:count])


def _labels(graph: Graph, nodes: Sequence[Node]) -> set[int]:
    """Return the variables that an operator takes as its label.

    What a regression is computed from is an input even if it is the label, too: that of an autoencoder. A
    class is not, although the margins of some face networks are computed from it.

    Args:
        graph: the whole graph.
        nodes: its nodes, without the labels of operators.
    """
    labelled = [index for index, node in enumerate(graph.nodes) if node.operation.takes_label and node.inputs]
    labels = {graph.nodes[index].inputs[-1][0] for index in labelled}
    regressions = [index for index in labelled if graph.nodes[index].operation.kind in REGRESSIONS]
    data = tuple(entry for index in regressions for entry in nodes[index].inputs)
    computed_from = set(depth_first([node.inputs for node in nodes], data))
    return {index for index in labels - computed_from if graph.nodes[index].operation.kind == VARIABLE}


def _names(graph: Graph, indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(graph.nodes[index].name for index in indices))
