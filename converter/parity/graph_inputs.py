"""Chooses the inputs on which a generated module is compared with its graph: their shapes and values."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from converter.errors import UsageError
from converter.graphs.codegen import ranks
from converter.graphs.graph import VARIABLE
from converter.parity import graph_proof, graph_sizes
from converter.parity.graph_sizes import FLAT, IMAGE
from converter.parity.node_execution import NodeExecution
from converter.parity.options import DEFAULT_SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.dtypes import Array
    from converter.graphs.graph import Entry, Graph, Node
    from converter.graphs.operators.code import Shape
    from converter.parity.graph_proof import ConvertedGraph

Size = tuple[int, int]

CHANNELS = 3  # of an image whose first layer does not determine them
FRAMES = 16  # of a video
INDICES = {"Embedding": 0, "batch_take": 1, "one_hot": 0, "pick": 1, "take": 1}  # the place of the indices
UNKNOWN_TABLE = 2  # indices below it are valid in every table that is worth a lookup
SAME_SHAPES = {  # operators whose inputs have equal shapes
    *("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_grad_add", "add_n", "ElementWiseSum"),
    *("_Plus", "_plus", "_add", "_Minus", "_minus", "_sub", "_Mul", "_mul", "_Div", "_div"),
}


class _Variable(msgspec.Struct, frozen=True):
    """A node in the file, as far as it states the shape of a variable."""

    op: str
    name: str
    attrs: dict[str, str] | None = None
    attr: dict[str, str] | None = None
    param: dict[str, str] | None = None


class _VariableNodes(msgspec.Struct, frozen=True):
    nodes: tuple[_Variable, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """The first node that determines what an input is.

    Attributes:
        node: the node.
        place: the place of the input, or of what was computed from it, among its inputs.
        direct: whether only operators that keep the number of axes are in between.
    """

    node: Node
    place: int
    direct: bool


def shapes(
    converted: ConvertedGraph, size: Size | None = None, given: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Shape]:
    """Return the shape of every input of a graph.

    Args:
        converted: the graph.
        size: height and width of images; None for those that the graph states, else 65×95.
        given: the shapes of some inputs.

    Raises:
        UsageError: if a given name is no input, if a shape is unknown, or if the graph takes images of
            another size.
    """
    graph, inputs = converted.pruned.graph, converted.module.inputs
    chosen = {name: tuple(shape) for name, shape in (given or {}).items()}
    if unknown := sorted(chosen.keys() - set(inputs)):
        raise UsageError(
            f"`input_shapes`: {graph.file} has no input {unknown[0]}; its inputs are {', '.join(inputs)}",
            "input_shapes",
        )
    stated = {} if size else _stated(graph)
    known: dict[str, Shape] = {}
    for name in inputs:
        shape = chosen.get(name) or _shape(converted, name, size or DEFAULT_SIZES[0])
        if name in stated and name not in chosen:
            shape = _completed(stated[name], shape)
        if shape:
            known[name] = shape
    while missing := [name for name in inputs if name not in known]:
        found = _of_partners(converted, known, missing)
        if not found:
            raise _unknown(graph, missing[0], inputs)
        known |= found
    if size is None and not chosen and not stated and any(len(shape) == IMAGE for shape in known.values()):
        graph_sizes.require_accepted(converted, known)
    return {name: known[name] for name in inputs}


def values(converted: ConvertedGraph, chosen: Mapping[str, Shape], dtype: str) -> dict[str, Array]:
    """Return random values of every input: normally distributed, or indices into a table."""
    generator = np.random.Generator(np.random.PCG64(0))
    made: dict[str, Array] = {}
    for name, shape in chosen.items():
        table = _table(converted, name)
        drawn = generator.integers(0, table, shape) if table else generator.standard_normal(shape)
        made[name] = drawn.astype(dtype)
    return made


def reader(graph: Graph, name: str) -> Reader | None:
    """Return the first node with parameters, or with indices, that an input reaches."""
    sources = {index: True for index, node in enumerate(graph.nodes) if node.name == name}
    for index, node in enumerate(graph.nodes):
        if node.operation.kind == VARIABLE:
            continue
        for place, (source, _) in enumerate(node.inputs):
            if source not in sources:
                continue
            if node.operation.roles or INDICES.get(node.operator) == place:
                return Reader(node, place, sources[source])
            sources[index] = sources[source] and node.operation.keeps_rank
    return None


def _shape(converted: ConvertedGraph, name: str, size: Size) -> Shape | None:
    """Return the shape of an input as the layer that reads it, or the number of its axes, determines it."""
    graph = converted.pruned.graph
    first = reader(graph, name)
    parameter = _parameter(converted, first) if first else None
    if first and INDICES.get(first.node.operator) == first.place:
        return None
    known = ranks.infer(graph)
    rank = next((known[i] for i, node in enumerate(graph.nodes) if node.name == name and i in known), None)
    is_flat = rank in {None, FLAT} and ((first and first.direct) or _is_flattened(graph, name))
    if parameter is not None and len(parameter) == FLAT and is_flat:
        return (1, parameter[1])
    if rank is None and parameter is not None and len(parameter) > FLAT:
        rank = len(parameter)
    is_only = len(converted.module.inputs) == 1
    if rank is None and is_only:
        rank = IMAGE
    if rank is None or rank < FLAT or (parameter is None and not is_only):
        return None
    spatial = {0: (), 1: size[1:], 2: size, 3: (FRAMES, *size)}.get(rank - FLAT)
    return None if spatial is None else (1, _channels(first, parameter), *spatial)


def _channels(first: Reader | None, parameter: Shape | None) -> int:
    if first is None or parameter is None or not parameter:
        return CHANNELS
    if first.node.operation.roles[0] != "weight" or len(parameter) < FLAT:
        return parameter[0]
    groups = first.node.operation.settings.get("groups", 1)
    return parameter[1] * (groups if isinstance(groups, int) else 1)


def _parameter(converted: ConvertedGraph, first: Reader) -> Shape | None:
    """Return the shape of the first parameter of a node."""
    graph, operation = converted.pruned.graph, first.node.operation
    if not operation.roles:
        return None
    name = graph.nodes[first.node.inputs[len(first.node.inputs) - len(operation.roles)][0]].name
    return converted.parameters[name].shape if name in converted.parameters else None


def _is_flattened(graph: Graph, name: str) -> bool:
    """Return whether every reader of an input flattens it, so that it may be flat already."""
    sources = {index for index, node in enumerate(graph.nodes) if node.name == name}
    readers = [node for node in graph.nodes if any(source in sources for source, _ in node.inputs)]
    return bool(readers) and all(node.operator in {"Flatten", "flatten"} for node in readers)


def _table(converted: ConvertedGraph, name: str) -> int:
    """Return the number of rows of the table that an input is an index of, 0 if it is none."""
    graph = converted.pruned.graph
    first = reader(graph, name)
    if first is None or INDICES.get(first.node.operator) != first.place:
        return 0
    settings = first.node.operation.settings
    for key in ("input_dim", "depth"):
        if isinstance(rows := settings.get(key), int):
            return rows
    table, axis = graph.nodes[first.node.inputs[0][0]].name, settings.get("axis", 0)
    if table in converted.parameters and isinstance(axis, int):
        return int(converted.parameters[table].shape[axis])
    return UNKNOWN_TABLE


def _stated(graph: Graph) -> dict[str, Shape]:
    """Return the shapes that the graph's file states for its variables."""
    found = {}
    for node in msgspec.json.decode(graph.content, type=_VariableNodes).nodes:
        attributes = {**(node.param or {}), **(node.attr or {}), **(node.attrs or {})}
        try:
            shape = ast.literal_eval(attributes.get("__shape__", "()"))
        except (ValueError, SyntaxError):
            continue
        if isinstance(shape, tuple) and shape and all(isinstance(axis, int) for axis in shape):
            found[node.name] = (max(shape[0], 1), *shape[1:])
    return found


def _completed(stated: Shape, derived: Shape | None) -> Shape | None:
    """Return a stated shape; axes that it leaves open, with 0 or -1, have the derived length."""
    if min(stated) > 0:
        return stated
    if derived is None or len(derived) != len(stated):
        return derived
    return tuple(one if one > 0 else other for one, other in zip(stated, derived, strict=True))


def _of_partners(
    converted: ConvertedGraph, known: Mapping[str, Shape], missing: list[str]
) -> dict[str, Shape]:
    """Return the shapes of inputs that are combined, element by element, with what the others determine."""
    graph = converted.pruned.graph
    partners = [(name, entry) for name in missing for entry in _partners(graph, name)]
    if not partners or not known:
        return {}
    net = graph_proof.load(converted.module, converted.parameters, "float32")
    execution = NodeExecution(
        graph=graph, module=converted.module, net=net, inputs=values(converted, known, "float32")
    )
    computed = {index for index, node in enumerate(graph.nodes) if node.name not in missing}
    for index, node in enumerate(graph.nodes):
        if node.operation.kind != VARIABLE and all(source in computed for source, _ in node.inputs):
            execution.store(index, execution.compute(index))
        elif node.operation.kind != VARIABLE:
            computed.discard(index)
    found = {
        name: tuple(execution.values[entry].shape) for name, entry in partners if entry in execution.values
    }
    inputs = [(name, graph.nodes[index].name) for name, (index, _) in partners]
    return {name: known[other] for name, other in inputs if other in known} | found


def _partners(graph: Graph, name: str) -> Iterator[Entry]:
    for node in graph.nodes:
        if node.operator in SAME_SHAPES and any(graph.nodes[index].name == name for index, _ in node.inputs):
            yield from (entry for entry in node.inputs if graph.nodes[entry[0]].name != name)


def _unknown(graph: Graph, name: str, inputs: tuple[str, ...]) -> UsageError:
    first = reader(graph, name)
    is_index = first is not None and INDICES.get(first.node.operator) == first.place
    example = "1x16" if is_index else "1x3x224x224"
    return UsageError(
        f"{graph.file}: cannot be proven: its inputs are {', '.join(inputs) or '(none)'}\n"
        f"  unknown  the shape of {name}\n"
        f"  try      --input {name}={example}, with its shape, or --reference none for no proof",
        "input_shapes",
    )
