"""Matches the arrays of a ``.params`` file with the variables of a graph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from converter import names
from converter.errors import MappingError
from converter.graphs import operators

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph

MAX_LINES = 10  # of an error
PREFIX = re.compile(r"(arg|aux):")  # of names that MXNet's Module wrote


def variable(name: str) -> str:
    """Return the variable of a parameter: its name in the file without the prefix of MXNet's Module."""
    return PREFIX.sub("", name, count=1)


def match(graph: Graph, arrays: Arrays, variables: Mapping[str, str], file: str) -> dict[str, AnyArray]:
    """Return the parameters of a graph by variable.

    Args:
        graph: the graph.
        arrays: the arrays by their names in the file.
        variables: the variable of each name in the file; other arrays are not used.
        file: the file, for messages.

    Raises:
        MappingError: if a parameter of an operator is missing, or is stored twice.
    """
    by_name: dict[str, AnyArray] = {}
    for stored, name in variables.items():
        if name in by_name:
            raise MappingError(f"{file}: {name} is stored twice")
        by_name[name] = arrays[stored]
    if missing := [name for name in graph.parameters if name not in by_name]:
        lines = [f"missing  {name}{_hint(name, by_name)}" for name in missing[:MAX_LINES]]
        headline = f"{file}: {len(missing)} parameters of {graph.file} are missing"
        more = names.shorten(missing, MAX_LINES)[MAX_LINES:]
        raise MappingError("\n  ".join([headline, *names.shorten(lines), *more]))
    _require_shapes(graph, by_name, file)
    used = set(graph.variables)
    return {name: array for name, array in by_name.items() if name in used}


def _require_shapes(graph: Graph, arrays: dict[str, AnyArray], file: str) -> None:
    """Check the shapes of weights against the attributes of their operators.

    Raises:
        MappingError: with every weight that differs.
    """
    problems = []
    for node in graph.nodes:
        settings, kind = node.operation.settings, node.operation.kind
        if kind not in {operators.CONVOLUTION, operators.DENSE}:
            continue
        name = graph.nodes[node.inputs[1][0]].name
        if name not in arrays:
            continue
        shape = tuple(arrays[name].shape)
        rest: tuple[object, ...]
        if kind == operators.DENSE:
            first, rest = settings["outputs"], shape[2:]
        else:
            kernel = settings["kernel"]
            first, rest = settings["filters"], kernel if isinstance(kernel, tuple) else (kernel, kernel)
        expected = f"({', '.join(map(str, (first, '…', *rest)))})"
        if (shape[:1], shape[2:]) != ((first,), rest):
            problems.append(f"{name} has the shape {shape}, {node.name} takes {expected}")
    if problems:
        headline = f"{file}: {len(problems)} parameters do not fit {graph.file}"
        raise MappingError("\n  ".join([headline, *names.shorten(problems, MAX_LINES)]))


def _hint(name: str, present: dict[str, AnyArray]) -> str:
    nearest = names.nearest(name, present)
    return f"      closest match: {nearest}" if nearest else ""
