"""Reads the source of the functions and layers that generated modules contain."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "helpers"


def names() -> list[str]:
    """Return the names of all functions."""
    return [*_functions()]


def sources(names: set[str]) -> list[str]:
    """Return the source of functions and classes, and of those that they use, in a fixed order."""
    functions = _functions()
    needed, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _called(name)
    return [source for name, source in functions.items() if name in needed]


@functools.cache
def _called(name: str) -> set[str]:
    """Return the functions that a function calls."""
    functions = _functions()
    tree = ast.parse(functions[name])
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & functions.keys()


@functools.cache
def _functions() -> dict[str, str]:
    """Return the source of every function and class, by its name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = re.sub(r"  # noqa.*", "", ast.get_source_segment(text, node) or "")
    return found
