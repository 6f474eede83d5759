"""Checks that the source of a generated module contains nothing but what we write ourselves."""

from __future__ import annotations

import ast
import functools
import math
import re
from typing import TYPE_CHECKING

from converter.graphs.codegen import LOAD, helpers_source

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTS = {"import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"}
IMPORTED = {"torch", "F", "Tensor", "nn"}
BUILTINS = {"int", "float", "bool", "len", "map", "range", "slice", "super", "tuple"}
# The places of instances in a class's docstring, and the name of a buffer.
PLACES = re.compile(
    r"[a-z0-9_]+(\.[a-z0-9_]+)*(, [a-z0-9_]+(\.[a-z0-9_]+)*)*( and \d+ more)?\.|\d+ instances\."
)
TENSOR = re.compile(r"[a-z][a-z0-9_]*")
CONSTANTS = {"bilinear", "replicate", "reflect"}
NODES = (  # of a method
    *(ast.Expr, ast.arguments, ast.arg, ast.Assign, ast.Return, ast.Call, ast.keyword, ast.Name),
    *(ast.Attribute, ast.Constant, ast.Tuple, ast.List, ast.Subscript, ast.Slice, ast.Starred, ast.BinOp),
    *(ast.UnaryOp, ast.Compare, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop),
)
# What torch has that reads files or runs code.
DANGEROUS = {
    *("classes", "compile", "from_file", "hub", "jit", "library", "load", "numpy", "ops", "os", "package"),
    *("save", "serialization", "storage", "sys", "types", "utils"),
}


class UnsafeSourceError(Exception):
    """A source contains something that we do not write."""


def require_safe(source: str) -> None:
    """Check the source of a generated module.

    Raises:
        UnsafeSourceError: if it has a node, a name, a string or a number that is not ours.
    """
    tree = ast.parse(source)
    statements = tree.body[1:]  # after the docstring
    if not source.isascii() or ast.get_docstring(tree) is None:
        raise UnsafeSourceError("no docstring, or not ASCII")
    lines = source.splitlines()
    known = {*BUILTINS, *IMPORTED, *_names(statements)}
    for node in statements:
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.ClassDef):
            _require_class(node, known)
        elif text not in (_copies() if isinstance(node, ast.FunctionDef) else IMPORTS):
            raise UnsafeSourceError(f"{text} is neither a function nor an import of ours")


def _names(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield the names of classes and functions; each exists once and hides no other."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if node.name in {*names, *BUILTINS, *IMPORTED}:
                raise UnsafeSourceError(f"{node.name} hides another name")
            names.add(node.name)
            yield node.name


@functools.cache
def _copies() -> set[str]:
    """Return the functions that a module may contain, letter by letter."""
    return {LOAD, *helpers_source.sources({*helpers_source.names()})}


def _require_class(node: ast.ClassDef, known: set[str]) -> None:
    docstring = ast.get_docstring(node)
    methods = node.body[docstring is not None :]
    if docstring is not None and not PLACES.fullmatch(docstring):
        raise UnsafeSourceError(f"{docstring} is not a list of places")
    names = [each.name for each in methods if isinstance(each, ast.FunctionDef)]
    if names != ["__init__", "forward"] or len(methods) != len(names):
        raise UnsafeSourceError(f"{node.name} has the methods {names}")
    if [*map(ast.unparse, node.bases)] != ["nn.Module"] or node.decorator_list or node.keywords:
        raise UnsafeSourceError(f"{node.name} has other bases than nn.Module")
    for method in methods:
        if isinstance(method, ast.FunctionDef):
            _require_method(method, known)


def _require_method(method: ast.FunctionDef, known: set[str]) -> None:
    if method.decorator_list or method.args.defaults or method.args.kw_defaults:
        raise UnsafeSourceError(f"{method.name} has decorators or defaults")
    arguments = [each.arg for each in method.args.args]
    nodes = [*ast.walk(method)][1:]  # without the method itself
    stored = {each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    if hidden := {*arguments, *stored} & known or len(set(arguments)) != len(arguments):
        raise UnsafeSourceError(f"arguments or variables of {method.name} hide {hidden}")
    for node in nodes:
        _require_node(node, {*known, *arguments, *stored})


def _require_node(node: ast.AST, known: set[str]) -> None:
    if not isinstance(node, NODES):
        raise UnsafeSourceError(f"{type(node).__name__} is not allowed")
    if isinstance(node, ast.Name) and node.id not in known:
        raise UnsafeSourceError(f"{node.id} is unknown")
    if isinstance(node, ast.Attribute):
        _require_attribute(node)
    if isinstance(node, ast.Constant):
        _require_constant(node.value)
    if isinstance(node, ast.Assign) and not all(map(_is_target, node.targets)):
        raise UnsafeSourceError(f"{ast.unparse(node)} assigns to something else")


def _require_attribute(node: ast.Attribute) -> None:
    is_super = node.attr == "__init__" and ast.unparse(node.value) == "super()"
    if node.attr.startswith("_") and not is_super:
        raise UnsafeSourceError(f"{ast.unparse(node)} is private")
    if node.attr in DANGEROUS and ast.unparse(node.value).split(".")[0] != "self":
        raise UnsafeSourceError(f"{ast.unparse(node)} is dangerous")


def _require_constant(value: object) -> None:
    if isinstance(value, str):
        if not (TENSOR.fullmatch(value) or PLACES.fullmatch(value) or value in CONSTANTS):
            raise UnsafeSourceError(f"the string {value!a} is not ours")
    elif value not in {None, ...} and not isinstance(value, bool | int | float):
        raise UnsafeSourceError(f"the constant {value!a} is not ours")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnsafeSourceError(f"the number {value} is not finite")


def _is_target(node: ast.expr) -> bool:
    """Return whether a target is a variable, several, or a member of ``self``."""
    if isinstance(node, ast.Tuple):
        return all(isinstance(each, ast.Name) for each in node.elts)
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Attribute) and re.fullmatch(r"self(\.\w+)+", ast.unparse(node)) is not None
    )
