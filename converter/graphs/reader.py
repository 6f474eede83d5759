"""Reads ``-symbol.json`` files of any MXNet version into graphs.

Sources: 3rdparty/tvm/nnvm/src/pass/saveload_json.cc, src/nnvm/legacy_json_util.cc, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converter.errors import SymbolError
from converter.graphs import operators
from converter.graphs.graph import VARIABLE_OPERATION, Graph, Node
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.graphs.graph import Entry

MAX_BYTES = 1 << 22  # the graph of senet_154 has 0.7 MB
MAX_NODES = 100_000  # a hundred times the largest supported network

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
    order = _depth_first(inputs, heads)
    place = {number: index for index, number in enumerate(order)}
    return Graph(
        file=file,
        name=name,
        content=content,
        path=path,
        nodes=tuple(
            _node(file, number, symbol.nodes[number], tuple((place[i], out) for i, out in inputs[number]))
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


def _depth_first(inputs: list[tuple[Entry, ...]], heads: tuple[Entry, ...]) -> list[int]:
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


def _node(file: str, number: int, json_node: _Node, inputs: tuple[Entry, ...]) -> Node:
    place = f"{file}: node {number}, {json_node.name}"
    if json_node.control_deps or json_node.subgraphs:
        raise SymbolError(f"{place}: control dependencies and subgraphs are not supported")
    try:
        is_variable = json_node.op == "null"
        operation = (
            VARIABLE_OPERATION if is_variable else operators.parse(json_node.op, _attributes(json_node))
        )
    except ValueError as error:
        raise SymbolError(f"{place}: {error}") from error
    expected = None if operation.data_inputs is None else operation.data_inputs + len(operation.roles)
    if expected is not None and len(inputs) != expected:
        raise SymbolError(f"{place}: {json_node.op} takes {expected} inputs, found {len(inputs)}")
    return Node(number=number, name=json_node.name, operator=json_node.op, operation=operation, inputs=inputs)


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
