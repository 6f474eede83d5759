"""Chooses the inputs on which a generated module is compared with its graph: their shapes and values."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError, UsageError
from converter.graphs import parameter_shapes
from converter.graphs.codegen import ranks
from converter.graphs.graph import VARIABLE
from converter.graphs.operators.attributes import MAX_ELEMENTS
from converter.parity import generated_network, graph_sizes
from converter.parity.graph_sizes import FLAT, IMAGE
from converter.parity.node_execution import NodeExecution
from converter.parity.options import DEFAULT_SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.dtypes import Array
    from converter.graphs.graph import Entry, Graph, Node
    from converter.graphs.operators.code import Shape
    from converter.graphs.parameter_shapes import PartialShape
    from converter.parity.graph_proof import ConvertedGraph

Size = tuple[int, int]

SEED = 0
CHANNELS = 3  # of an image whose first layer does not determine them
FRAMES = 16  # of a video
UNKNOWN_TABLE = 2  # indices below it are valid in every table that is worth a lookup
SAME_SHAPES = {  # operators whose inputs have equal shapes
    *("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_grad_add", "add_n", "ElementWiseSum"),
    *("_Plus", "_plus", "_add", "_Minus", "_minus", "_sub", "_Mul", "_mul", "_Div", "_div"),
}


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

    @property
    def takes_indices(self) -> bool:
        """Whether the input contains indices into a table."""
        return self.node.operation.index_input == self.place

    @property
    def takes_lengths(self) -> bool:
        """Whether the input contains lengths of sequences."""
        return self.node.operation.length_input == self.place


def shapes(
    converted: ConvertedGraph, size: Size | None = None, given: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Shape]:
    """Return the shape of every input of a graph.

    Args:
        converted: the graph.
        size: height and width of images; None for those that the graph states, else 65×95, else the first
            usual size that the module takes.
        given: the shapes of some inputs.

    Raises:
        UsageError: if a given name is not an input, or if a shape is unknown or too large.
    """
    graph, inputs = converted.pruned.graph, converted.module.inputs
    chosen = {name: tuple(shape) for name, shape in (given or {}).items()}
    if unknown := sorted(chosen.keys() - set(inputs)):
        raise UsageError(
            f"`input_shapes`: {graph.file} has no input {unknown[0]}; its inputs are {', '.join(inputs)}",
            "input_shapes",
        )
    stated = {} if size else _stated(graph, inputs)
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
    for name, shape in known.items():
        _require_elements(name, shape)
    if size is None and not chosen and not stated and any(len(shape) == IMAGE for shape in known.values()):
        known.update(graph_sizes.with_accepted_size(converted, known))
    return {name: known[name] for name in inputs}


def _stated(graph: Graph, inputs: Sequence[str]) -> dict[str, PartialShape]:
    """Return the shapes of inputs that the graph states; exports state those of parameters, too."""
    declared = parameter_shapes.declared(graph)
    return {name: declared[name] for name in inputs if name in declared}


def values(converted: ConvertedGraph, chosen: Mapping[str, Shape], dtype: str) -> dict[str, Array]:
    """Return random values of every input: normally distributed, indices into a table, or lengths."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    made: dict[str, Array] = {}
    for name, shape in chosen.items():
        table, steps = _table(converted, name), _steps(converted, name, chosen)
        if table or steps:
            made[name] = generator.integers(*((0, table) if table else (1, steps + 1)), shape).astype(dtype)
        else:
            made[name] = generator.standard_normal(shape).astype(dtype)
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
            found = Reader(node, place, sources[source])
            if node.operation.roles or found.takes_indices or found.takes_lengths:
                return found
            sources[index] = sources[source] and node.operation.keeps_rank
    return None


def _shape(converted: ConvertedGraph, name: str, size: Size) -> Shape | None:
    """Return the shape of an input as the layer that reads it, or the number of its axes, determines it."""
    graph = converted.pruned.graph
    first = reader(graph, name)
    parameter = _parameter(converted, first) if first else None
    if first and (first.takes_indices or first.takes_lengths):
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
    """Return the number of rows of the table that an input indexes, or 0."""
    graph = converted.pruned.graph
    first = reader(graph, name)
    if first is None or not first.takes_indices:
        return 0
    settings = first.node.operation.settings
    for key in ("input_dim", "depth"):
        if isinstance(rows := settings.get(key), int):
            return rows
    table, axis = graph.nodes[first.node.inputs[0][0]].name, settings.get("axis", 0)
    if table in converted.parameters and isinstance(axis, int):
        return int(converted.parameters[table].shape[axis])
    return UNKNOWN_TABLE


def _steps(converted: ConvertedGraph, name: str, chosen: Mapping[str, Shape]) -> int:
    """Return the largest length of the sequences that an input contains the lengths of, 0 if it does not.

    If they are computed, their number of steps is unknown; each has at least one.
    """
    first = reader(converted.pruned.graph, name)
    if first is None or not first.takes_lengths:
        return 0
    sequences = chosen.get(converted.pruned.graph.nodes[first.node.inputs[0][0]].name)
    axis = first.node.operation.settings.get("axis", 0)
    return sequences[axis] if sequences and isinstance(axis, int) else 1


def _completed(stated: PartialShape, derived: Shape | None) -> Shape | None:
    """Return a stated shape; sizes that it leaves open are the derived ones, and the batch has size 1."""
    batched = (stated[0] or 1, *stated[1:])
    complete = tuple(size for size in batched if size is not None)
    if len(complete) == len(batched):
        return complete
    if derived is None or len(derived) != len(batched):
        return derived
    return tuple(one or other for one, other in zip(batched, derived, strict=True))


def _require_elements(name: str, shape: Shape) -> None:
    """Check that an input is not too large.

    Raises:
        UsageError: if it is.
    """
    if math.prod(shape) > MAX_ELEMENTS:
        raise UsageError(
            f"the input {name} is too large: {shape}; at most {MAX_ELEMENTS:,} elements are supported\n"
            f"  try  --input {name}=SHAPE, with a smaller one",
            "input_shapes",
        )


def _of_partners(
    converted: ConvertedGraph, known: Mapping[str, Shape], missing: list[str]
) -> dict[str, Shape]:
    """Return the shapes of inputs that are combined, element by element, with what the others determine."""
    graph = converted.pruned.graph
    partners = [(name, entry) for name in missing for entry in _partners(graph, name)]
    if not partners or not known:
        return {}
    net = generated_network.load(converted.module, converted.parameters, "float32")
    execution = NodeExecution(
        graph=graph, module=converted.module, net=net, inputs=values(converted, known, "float32")
    )
    computed = {index for index, node in enumerate(graph.nodes) if node.name not in missing}
    for index, node in enumerate(graph.nodes):
        if node.operation.kind == VARIABLE:
            continue
        outputs = None
        if all(source in computed for source, _ in node.inputs):
            with contextlib.suppress(ParityError):  # the shapes before it do not fit: the proof says so
                outputs = execution.compute(index)
        if outputs is None:
            computed.discard(index)
        else:
            execution.store(index, outputs)
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
    example = "1x16" if first and first.takes_indices else "1x3x224x224"
    example = "1" if first and first.takes_lengths else example
    return UsageError(
        f"{graph.file}: cannot be proven: its inputs are {', '.join(inputs) or '(none)'}\n"
        f"  unknown  the shape of {name}\n"
        f"  try      --input {name}={example}, with its shape, or --reference none for no proof",
        "input_shapes",
    )
