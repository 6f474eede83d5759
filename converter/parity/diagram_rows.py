"""The boxes of a report's block diagram: layers or nodes with their errors and their inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from converter import names
from converter.graphs.graph import VARIABLE
from converter.parity.graph_rows import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.graphs.graph import Graph
    from converter.networks.mapping import Layer
    from converter.parity.graph_rows import GraphRow
    from converter.parity.result import ParityResult

BLOCK = "block"  # the kind of a layer that is the output of a whole block


class BoxRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer or a node.

    Attributes:
        source: its name in Gluon or in the graph.
        target: its name in PyTorch, "" for an expression.
        kind: its kind or operator.
        part: the part of the network.
        inputs: the numbers of the boxes before it.
        agrees: whether the outputs agree, None if they were not compared.
        relative: the relative error; None if it is not finite, or without a comparison.
        limit: the largest that passes.
    """

    source: str
    target: str
    kind: str
    part: str
    inputs: tuple[int, ...] = ()
    agrees: bool | None = None
    relative: float | None = None
    limit: float = 0.0


class DiagramRow(Struct, frozen=True, kw_only=True):
    """The network, with the errors of one check.

    Attributes:
        check: the number of the check.
        compared: what is compared, "end to end" or "node by node".
        culprit: the number of the box of the first mismatch, None if there is none.
        boxes: the layers or nodes, in the order of the network.
    """

    check: int
    compared: str
    culprit: int | None
    boxes: tuple[BoxRow, ...]


def of_layers(layers: Sequence[Layer], proof: ParityResult) -> DiagramRow:
    """Return the layers of a named network with the errors of the decisive check, else of the strictest."""
    check = proof.decisive or min(proof.checks, key=lambda check: check.limit)
    rows = {row.layer: row for row in check.rows}
    mismatch = check.first_mismatch
    boxes = []
    for layer, inputs in zip(layers, layer_inputs(layers), strict=True):
        row = rows.get(layer)
        boxes.append(
            BoxRow(
                source=layer.source,
                target=layer.target,
                kind=layer.kind,
                part=layer.part,
                inputs=inputs,
                agrees=row.agrees if row else None,
                relative=_finite(row.relative) if row else None,
                limit=row.limit if row else 0.0,
            )
        )
    culprit = layers.index(mismatch.layer) if mismatch else None
    number = proof.checks.index(check)
    return DiagramRow(check=number, compared=Part.end_to_end, culprit=culprit, boxes=tuple(boxes))


def layer_inputs(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """Return the layers that each layer of a residual network takes as input.

    Layers follow each other, except in a block: the shortcut begins where the block begins, and the
    block's own output is the sum of both.
    """
    blocks = [layer.target for layer in layers if layer.kind == BLOCK]
    owner = {name: name for name in blocks}
    inputs: list[tuple[int, ...]] = []
    current, main, shortcut = "", -1, -1
    for number, layer in enumerate(layers):
        path = layer.target.split(".")
        prefixes = (".".join(path[:length]) for length in range(len(path), 0, -1))
        block = next((owner[prefix] for prefix in prefixes if prefix in owner), "")
        if block != current or not block:
            current, main, shortcut = block, number - 1, number - 1
        before = (main, shortcut) if layer.kind == BLOCK else (shortcut if layer.on_shortcut else main,)
        inputs.append(tuple(dict.fromkeys(place for place in before if place >= 0)))
        main, shortcut = (main, number) if layer.on_shortcut else (number, shortcut)
    return inputs


def of_graph(graph: Graph, layers: dict[int, str], rows: Sequence[GraphRow], check: int) -> DiagramRow:
    """Return the nodes of a graph with the errors of one run.

    A node that fails by itself is shown by the comparison node by node, which its effects pass. If none
    does, the outputs of the layers are shown as they were computed end to end.

    Args:
        graph: the part for inference.
        layers: the layer of each node.
        rows: the comparisons of the run.
        check: the number of the run.
    """
    mismatch = next((row for row in rows if not row.passed), None)
    part = Part.node if mismatch is None or mismatch.part is Part.node else Part.end_to_end
    errors = {row.index: row for row in rows if row.part is part}
    numbers: dict[int, int] = {}
    boxes: list[BoxRow] = []
    for index, node in enumerate(graph.nodes):
        if node.operation.kind == VARIABLE:
            continue
        numbers[index] = len(boxes)
        target, row = layers.get(index, ""), errors.get(index)
        inputs = dict.fromkeys(numbers[source] for source, _ in node.inputs if source in numbers)
        # An expression has no name in the module: it is drawn in the part of the node before it.
        before = boxes[-1].part if boxes else ""
        boxes.append(
            BoxRow(
                source=names.printable(node.name),
                target=target,
                kind=node.operator,
                part=target.rpartition(".")[0].partition(".")[0] if target else before,
                inputs=tuple(inputs),
                agrees=row.passed if row else None,
                relative=_finite(row.relative) if row else None,
                limit=row.limit if row else 0.0,
            )
        )
    culprit = numbers.get(mismatch.index) if mismatch else None
    return DiagramRow(check=check, compared=part, culprit=culprit, boxes=tuple(boxes))


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
