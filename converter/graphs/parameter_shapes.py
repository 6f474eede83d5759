"""The shapes of a graph's parameters, as far as the graph alone determines them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from converter.graphs import operators
from converter.graphs.graph import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converter.graphs.graph import Graph, Operation

    PartialShape = tuple[int | None, ...]  # None for an unknown size

DECLARED = "__shape__"  # MXNet's attribute of a variable, with 0 or -1 for an unknown size
SHAPE = re.compile(r"[(\[]\s*((-?\d{1,9}L?)(\s*,\s*(-?\d{1,9}L?))*)\s*,?\s*[)\]]")
NUMBER = re.compile(r"-?\d+")


def find(graph: Graph, names: Iterable[str]) -> dict[str, PartialShape | None]:
    """Return the shapes of parameters, None for one of which nothing is known.

    Sizes come from the attributes of convolutions and dense layers, also for a BatchNorm after them, and
    from what the file declares.
    """
    shapes = declared(graph)
    for name, shape in _of_operators(graph):
        shapes[name] = _merged(shape, shapes.get(name))
    return {name: shapes.get(name) for name in names}


def describe(shape: PartialShape | None) -> str:
    """Return a shape as text, with an ellipsis for each unknown size."""
    if shape is None:
        return ""
    sizes = ["…" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _of_operators(graph: Graph) -> Iterator[tuple[str, PartialShape]]:
    for node in graph.nodes:
        shapes = _shapes(node.operation)
        if node.operation.kind == operators.BATCH_NORM and not node.operation.refused:
            source = graph.nodes[node.inputs[0][0]].operation
            size = _shapes(source).get("weight", (None,))[0]
            shapes = dict.fromkeys(node.operation.roles, (size,))
        places = node.inputs[node.operation.data_inputs :]
        for role, (index, _) in zip(node.operation.roles, places, strict=False):
            if role in shapes and graph.nodes[index].operation.kind == VARIABLE:
                yield graph.nodes[index].name, shapes[role]


def _shapes(operation: Operation) -> dict[str, PartialShape]:
    """Return the shapes of an operation's parameters, by their roles."""
    settings = operation.settings
    if operation.kind == operators.DENSE and isinstance(outputs := settings["outputs"], int):
        return {"weight": (outputs, None), "bias": (outputs,)}
    if operation.kind == operators.CONVOLUTION and isinstance(filters := settings["filters"], int):
        kernel = settings["kernel"]
        sizes = kernel if isinstance(kernel, tuple) else (int(kernel), int(kernel))
        return {"weight": (filters, None, *sizes), "bias": (filters,)}
    return {}


def declared(graph: Graph) -> dict[str, PartialShape]:
    """Return the shapes of variables that the file declares."""
    document: dict[str, Any] = msgspec.json.decode(graph.content)
    shapes = {}
    for node in document["nodes"]:
        for attributes in filter(None, (node.get(key) for key in ("attrs", "attr", "param"))):
            text = attributes.get(DECLARED, "")
            if SHAPE.fullmatch(text) and node["op"] == "null":
                sizes = map(int, NUMBER.findall(text))
                shapes[node["name"]] = tuple(size if size > 0 else None for size in sizes)
    return shapes


def _merged(shape: PartialShape, declared: PartialShape | None) -> PartialShape:
    """Return a shape with its unknown sizes taken from a declared one, if both have the same rank."""
    if declared is None or len(declared) != len(shape):
        return shape
    return tuple(other if size is None else size for size, other in zip(shape, declared, strict=True))
