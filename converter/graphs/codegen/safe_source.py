"""Checks that the source of a generated module contains only what the code generator writes.

What passes can only build layers of ``torch.nn`` and compute with tensors: it has no imports of its own, no
loops, no texts but names, and it reads no attributes but those in ``safe_names``.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from typing import TYPE_CHECKING

from converter.graphs.codegen import LOAD, helpers_source
from converter.graphs.codegen.identifiers import RESERVED
from converter.graphs.codegen.safe_names import BUILTINS, FUNCTIONS, LAYER_NAMES, METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTS = {"import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"}
IMPORTED = {"torch", "F", "Tensor", "nn"}
CHARACTERS = re.compile(r"[\n -~]*")
FILE_READERS = {"load", "read_safetensors"}  # which no layer calls
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


class UnsafeSourceError(Exception):
    """A source contains something that the code generator does not write."""


def require_safe(source: str) -> None:
    """Check the source of a generated module.

    Raises:
        UnsafeSourceError: if it has a node, a name, a string or a number that no generated module has.
    """
    try:
        _require_safe(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # of ``ast.parse``
        raise UnsafeSourceError(f"not Python, or nested too deeply: {error}") from error


def _require_safe(source: str) -> None:
    tree = ast.parse(source)
    statements = tree.body[1:]  # after the docstring
    # Other characters that end a line for ``splitlines`` do not end one for Python.
    if not CHARACTERS.fullmatch(source) or ast.get_docstring(tree) is None:
        raise UnsafeSourceError("no docstring, or not printable ASCII")
    lines = source.splitlines()
    names = {*_names(statements)}
    known = {*BUILTINS, *IMPORTED, *names} - FILE_READERS
    for node in statements:
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            is_copy = text in IMPORTS
        elif node.decorator_list:  # which the text is without
            raise UnsafeSourceError(f"{node.name} has decorators")
        else:
            is_copy = text in _copies()
        if isinstance(node, ast.ClassDef) and not is_copy:
            _require_class(node, known, names)
        elif not is_copy:
            raise UnsafeSourceError(f"{text} is not allowed in a generated module")


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
    """Return the functions and classes that a module may contain, letter by letter."""
    return {LOAD, *helpers_source.sources({*helpers_source.names()})}


def _require_class(node: ast.ClassDef, known: set[str], names: set[str]) -> None:
    docstring = ast.get_docstring(node)
    methods = node.body[docstring is not None :]
    if docstring is not None and not PLACES.fullmatch(docstring):
        raise UnsafeSourceError(f"{docstring} is not a list of places")
    found = [each.name for each in methods if isinstance(each, ast.FunctionDef)]
    if found != ["__init__", "forward"] or len(methods) != len(found):
        raise UnsafeSourceError(f"{node.name} has the methods {found}")
    if [*map(ast.unparse, node.bases)] != ["nn.Module"] or node.keywords:
        raise UnsafeSourceError(f"{node.name} has other bases than nn.Module")
    for method in methods:
        if isinstance(method, ast.FunctionDef):
            _require_method(method, known, names)


def _require_method(method: ast.FunctionDef, known: set[str], names: set[str]) -> None:
    if method.decorator_list or method.args.defaults or method.args.kw_defaults:
        raise UnsafeSourceError(f"{method.name} has decorators or defaults")
    arguments = [each.arg for each in method.args.args]
    nodes = [*ast.walk(method)][1:]  # without the method itself
    stored = {each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    if (
        hidden := {*arguments, *stored} & (known | FILE_READERS)
        or {"self"} & stored
        or len(set(arguments)) != len(arguments)
    ):
        raise UnsafeSourceError(f"arguments or variables of {method.name} hide {hidden}")
    if arguments[:1] != ["self"]:
        raise UnsafeSourceError(f"the first argument of {method.name} is not self")
    for node in nodes:
        _require_node(node, {*known, *arguments, *stored})
        if isinstance(node, ast.Assign):
            _require_assignment(node, method, names)


def _require_node(node: ast.AST, known: set[str]) -> None:
    if not isinstance(node, NODES):
        raise UnsafeSourceError(f"{type(node).__name__} is not allowed")
    if isinstance(node, ast.Name) and node.id not in known:
        raise UnsafeSourceError(f"{node.id} is unknown")
    if isinstance(node, ast.Attribute):
        _require_attribute(node)
    if isinstance(node, ast.Constant):
        _require_constant(node.value)


def _require_attribute(node: ast.Attribute) -> None:
    """Check an attribute: of torch, of a layer, or of a tensor that was computed."""
    if node.attr == "__init__" and ast.unparse(node.value) == "super()":
        return
    if node.attr.startswith("_"):
        raise UnsafeSourceError(f"{node.attr} is private")
    root, *parts = _dotted(node)
    if root in IMPORTED:
        if ".".join([root, *parts]) not in FUNCTIONS:
            raise UnsafeSourceError(f"{'.'.join([root, *parts])} is not allowed in a generated module")
    elif root == "self":
        if node.attr in RESERVED - LAYER_NAMES - METHODS:
            raise UnsafeSourceError(f"self.{'.'.join(parts)} is not allowed in a generated module")
    elif node.attr not in METHODS:
        raise UnsafeSourceError(f"method {node.attr} is not allowed in a generated module")


def _dotted(node: ast.Attribute) -> list[str]:
    """Return the names of ``a.b.c``; of an attribute of another expression, an empty first name."""
    parts: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return [value.id if isinstance(value, ast.Name) else "", *reversed(parts)]


def _require_constant(value: object) -> None:
    if isinstance(value, str):
        if not (TENSOR.fullmatch(value) or PLACES.fullmatch(value) or value in CONSTANTS):
            raise UnsafeSourceError(f"string {value!a} is not allowed in a generated module")
    elif value not in {None, ...} and not isinstance(value, bool | int | float):
        raise UnsafeSourceError(f"constant {value!a} is not allowed in a generated module")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnsafeSourceError(f"the number {value} is not finite")


def _require_assignment(node: ast.Assign, method: ast.FunctionDef, names: set[str]) -> None:
    """Check that members are layers and parameters, set while the layer is built, and others variables."""
    for target in node.targets:
        if _is_variable(target):
            continue
        is_member = re.fullmatch(r"self(\.\w+)+", ast.unparse(target)) is not None
        if method.name != "__init__" or not is_member:
            raise UnsafeSourceError(f"{ast.unparse(node)} assigns to something else")
        made = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
        if not (made.startswith("nn.") or made in names):
            raise UnsafeSourceError(f"{ast.unparse(node)} is neither a layer nor a parameter")


def _is_variable(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(isinstance(each, ast.Name) for each in node.elts)
    return isinstance(node, ast.Name)
