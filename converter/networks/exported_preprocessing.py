"""Find the preprocessing that ``gluoncv.utils.export_block`` puts before a network in its graph.

Source: gluoncv/utils/export_helper.py, ``_DefaultPreprocess``, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.graphs.graph import VARIABLE
from converter.networks import preparation

if TYPE_CHECKING:
    from converter.graphs.graph import Entry, Graph, Node

TO_CHANNELS_FIRST = (0, 3, 1, 2)
SUBTRACT = {"broadcast_sub", "broadcast_minus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPreprocessing:
    """The nodes of ``transpose((images - mean) / scale)``.

    Attributes:
        images: the entry of the images, of shape (n, height, width, channels).
        output: the entry of the network's input, of shape (n, channels, height, width).
        constants: the names of the variables of the mean and the scale.
    """

    images: Entry
    output: Entry
    constants: tuple[str, str]


def find(graph: Graph) -> ExportedPreprocessing | None:
    """Return the preprocessing of a graph, None if it has none, or if the images are used elsewhere too."""
    uses = Counter(entry for node in graph.nodes for entry in node.inputs)
    for index, node in enumerate(graph.nodes):
        if node.operator == "transpose" and node.operation.settings["axes"] == TO_CHANNELS_FIRST:
            found = _before(graph, index, node)
            if found and uses[found.images] == 1:
                return found
    return None


def _before(graph: Graph, index: int, transpose: Node) -> ExportedPreprocessing | None:
    """Return the preprocessing that ends in a transposition."""
    quotient = _operands(graph, transpose.inputs[0], {"broadcast_div"})
    difference = quotient and _operands(graph, quotient[0], SUBTRACT)
    if not (quotient and difference):
        return None
    mean, scale = graph.nodes[difference[1][0]], graph.nodes[quotient[1][0]]
    if not (_is_constant(mean, "mean") and _is_constant(scale, "scale")):
        return None
    return ExportedPreprocessing(images=difference[0], output=(index, 0), constants=(mean.name, scale.name))


def _operands(graph: Graph, entry: Entry, operators: set[str]) -> tuple[Entry, ...]:
    """Return the inputs of a node, empty if it has another operator."""
    node = graph.nodes[entry[0]]
    return node.inputs if node.operator in operators else ()


def _is_constant(node: Node, role: str) -> bool:
    match = preparation.CONSTANT.fullmatch(node.name)
    return node.operation.kind == VARIABLE and match is not None and match["role"] == role
