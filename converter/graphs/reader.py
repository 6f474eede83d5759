"""Read ``-symbol.json`` files of any MXNet version into graphs.

Sources: 3rdparty/tvm/nnvm/src/pass/saveload_json.cc, src/nnvm/legacy_json_util.cc, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converter import names
from converter.errors import SymbolError
from converter.graphs import implicit, operators
from converter.graphs.graph import VARIABLE, VARIABLE_OPERATION, Graph, Node
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.graphs.graph import Entry, Operation

MAX_BYTES = 1 << 22  # the graph of senet_154 has 0.7 MB
MAX_NODES = 100_000  # a hundred times the largest supported network; also of the nodes' outputs
MAX_INPUTS = 1000  # of a node; Python cannot parse a sum of several thousand terms

NULL = "null"  # the operator of a variable
MAX_LINES = 10  # of an error
EXPLICIT = 900  # the version, 0.9.0, from which on a file contains every input

# Training attributes, which MXNet accepts on any node.
TRAINING = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node in the file. MXNet 0.8 writes ``param``, 0.9 ``attr``, 1.0 ``attrs``; None if absent."""

    op: str
    name: str
    inputs: tuple[tuple[int, ...], ...]
    attrs: dict[str, str] | None = None
    attr: dict[str, str] | None = None
    param: dict[str, str] | None = None
    backward_source_id: int = -1
    control_deps: tuple[int, ...] = ()
    subgraphs: tuple[dict[str, object], ...] = ()


class _Symbol(msgspec.Struct, frozen=True):
    """The parts of a symbol file that are read."""

    nodes: tuple[_Node, ...]
    heads: tuple[tuple[int, ...], ...]
    attrs: object = None

    @property
    def has_implicit_inputs(self) -> bool:
        """Whether MXNet adds missing inputs: it does if the file states no version of 0.9 or later."""
        match self.attrs:
            case {"mxnet_version": [_, int(version)]}:
                return version < EXPLICIT
        return True


def read(path: Path) -> Graph:
    """Read a symbol file.

    Raises:
        StorageError: if the file cannot be read.
        SymbolError: if it is not a graph, or has an attribute that MXNet refuses.
    """
    content = disk.read_small(path, MAX_BYTES)
    return parse(content, file=str(path), name=disk.file_name(path), path=path)


def parse(content: bytes, *, file: str, name: str, path: Path | None = None) -> Graph:
    """Read a graph from the bytes of a symbol file.

    Args:
        content: the JSON text.
        file: the file's name in messages.
        name: the file name.
        path: the file's path, None for a member of an archive.

    Raises:
        SymbolError: if the content is not a graph, or has an attribute that MXNet refuses.
    """
    try:
        symbol = msgspec.json.decode(content, type=_Symbol)
        if len(symbol.nodes) > MAX_NODES:
            raise SymbolError(f"{file}: contains more than {MAX_NODES} nodes")
        inputs = [_entries(node.inputs, number) for number, node in enumerate(symbol.nodes)]
        heads = _entries(symbol.heads, len(symbol.nodes))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise SymbolError(f"{file}: not an MXNet graph: {error}") from error
    operations = _operations(file, symbol, depth_first(inputs, heads))
    nodes = [(node.name, node.op) for node in symbol.nodes]
    if symbol.has_implicit_inputs:
        for number, operation in list(operations.items()):
            for input_name in implicit.missing(operation, len(inputs[number])):
                inputs[number] += ((len(nodes), 0),)
                operations[len(nodes)] = VARIABLE_OPERATION
                nodes.append((f"{nodes[number][0]}_{input_name}", NULL))
                inputs.append(())
    _require_inputs(file, symbol, operations, inputs)
    _require_outputs(file, symbol, operations, inputs, heads)
    order = depth_first(inputs, heads)
    place = {number: index for index, number in enumerate(order)}
    return Graph(
        file=file,
        name=name,
        content=content,
        path=path,
        nodes=tuple(
            Node(
                number=number,
                name=nodes[number][0],
                operator=nodes[number][1],
                operation=operations[number],
                inputs=tuple((place[i], output) for i, output in inputs[number]),
            )
            for number in order
        ),
        outputs=tuple((place[number], output) for number, output in heads),
    )


def _entries(numbers: tuple[tuple[int, ...], ...], limit: int) -> tuple[Entry, ...]:
    """Return entries from a file.

    Args:
        numbers: (node, output) or, since MXNet 0.9, (node, output, version) of each entry.
        limit: every node has to come before this one.

    Raises:
        ValueError: if an entry has another form or refers to a later node.
    """
    for entry in numbers:
        if len(entry) not in {2, 3} or not (0 <= entry[0] < limit and entry[1] >= 0):
            raise ValueError(f"input {list(entry)} does not refer to an earlier node")
    return tuple((entry[0], entry[1]) for entry in numbers)


def depth_first(inputs: Sequence[tuple[Entry, ...]], heads: tuple[Entry, ...]) -> list[int]:
    """Return the nodes on which the heads depend, inputs first: the order of MXNet's ``tojson()``."""
    order: dict[int, None] = {}
    stack = [(number, False) for number, _ in reversed(heads)]
    while stack:
        number, done = stack.pop()
        if done:
            order[number] = None
        elif number not in order:
            stack.append((number, True))
            stack += [(i, False) for i, _ in reversed(inputs[number]) if i not in order]
    return list(order)


def _operations(file: str, symbol: _Symbol, order: list[int]) -> dict[int, Operation]:
    """Return the operation of each node, in the given order.

    Raises:
        SymbolError: with every node whose attributes are malformed.
    """
    operations, problems = {}, []
    for number in order:
        try:
            operations[number] = _operation(symbol.nodes[number])
        except ValueError as error:
            problems.append(f"{_place(symbol, number)}: {error}")
    _require_none(file, problems)
    return operations


def _operation(node: _Node) -> Operation:
    if (node.control_deps or node.subgraphs) and node.op not in operators.REASONS:
        raise ValueError("control dependencies and subgraphs are not supported")
    return VARIABLE_OPERATION if node.op == NULL else operators.parse(node.op, _attributes(node))


def _require_inputs(
    file: str, symbol: _Symbol, operations: dict[int, Operation], inputs: list[tuple[Entry, ...]]
) -> None:
    """Check that every node has as many inputs as its operator takes.

    Raises:
        SymbolError: listing every node with a wrong number of inputs.
    """
    problems = []
    for number, operation in operations.items():
        count = len(inputs[number])
        expected = None if operation.data_inputs is None else operation.data_inputs + len(operation.roles)
        if expected is not None and count != expected:
            place, operator = _place(symbol, number), symbol.nodes[number].op
            problems.append(f"{place}: {operator} takes {expected} inputs, found {count}")
        elif not count and operation.data_inputs is None and operation.code is not None:
            problems.append(f"{_place(symbol, number)}: {symbol.nodes[number].op} takes inputs, found none")
        elif count > MAX_INPUTS:
            problems.append(f"{_place(symbol, number)}: more than {MAX_INPUTS} inputs, found {count}")
    _require_none(file, problems)


def _require_outputs(
    file: str,
    symbol: _Symbol,
    operations: dict[int, Operation],
    inputs: list[tuple[Entry, ...]],
    heads: tuple[Entry, ...],
) -> None:
    """Check that every entry refers to an output that its node has; the outputs of some are unknown.

    Raises:
        SymbolError: with every node that refers to another, or if the nodes have too many outputs.
    """
    if sum(operation.outputs for operation in operations.values()) > MAX_NODES:
        raise SymbolError(f"{file}: the nodes have more than {MAX_NODES} outputs")
    counts = {
        number: operation.outputs
        for number, operation in operations.items()
        if operation.code is not None or operation.kind == VARIABLE
    }
    users = [(_place(symbol, number), inputs[number]) for number in operations if number < len(symbol.nodes)]
    problems = [
        f"{place}: output {output} of {_place(symbol, source)} does not exist"
        for place, entries in [*users, ("heads", heads)]
        for source, output in entries
        if output >= counts.get(source, output + 1)
    ]
    _require_none(file, problems)


def _place(symbol: _Symbol, number: int) -> str:
    return f"node {number}, {symbol.nodes[number].name}"


def _require_none(file: str, problems: list[str]) -> None:
    if len(problems) == 1:
        raise SymbolError(f"{file}: {names.shorten(problems)[0]}")
    if problems:
        lines = [f"{file}: {len(problems)} nodes are malformed", *names.shorten(problems, MAX_LINES)]
        raise SymbolError("\n  ".join(lines))


def _attributes(json_node: _Node) -> dict[str, str]:
    """Return a node's attributes without those for training.

    MXNet uses the newer of ``attrs`` and ``attr``, even if it is empty, and adds those only in
    ``param``.

    Raises:
        ValueError: if two dictionaries contradict each other.
    """
    present = [each for each in (json_node.attrs, json_node.attr) if each is not None]
    present = [{key: value for key, value in each.items() if not _is_training(key)} for each in present]
    own = present[0] if present else {}
    older = {key: value for key, value in (json_node.param or {}).items() if not _is_training(key)}
    if any(each != own for each in present) or any(own.get(key, older[key]) != older[key] for key in older):
        raise ValueError("its attribute dictionaries contradict each other")
    return older | own


def _is_training(key: str) -> bool:
    """Return whether an attribute is for training: ``lr_mult``, ``weight_lr_mult``, ``__shape__``."""
    return (key.startswith("__") and key.endswith("__")) or key.endswith(TRAINING)
