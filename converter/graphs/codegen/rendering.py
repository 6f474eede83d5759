"""Writes classes as the source of a module, in the style of ``ruff format``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.graphs.codegen.folding import ROOT, Name
from converter.graphs.codegen.identifiers import join, quoted, words
from converter.graphs.codegen.steps import BUFFER, CONSTANT, PARAMETER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.codegen.folding import Line, ModuleClass
    from converter.graphs.operators.code import Argument

WIDTH = 88  # of a line: the default of ruff
INDENT = "    "
MAX_PLACES_CHARACTERS = 72  # of a class, in its docstring


def render(each: ModuleClass) -> list[str]:
    """Return the lines of a class."""
    lines = [f"class {each.name}(nn.Module):"]
    if each.name != ROOT:
        lines += [f'{INDENT}"""{_places(each)}."""', ""]
    typed = [f"{name}: {_type(values[0])}" for name, values in each.parameters.items()]
    lines += _call(1, "def __init__", ["self", *typed], " -> None:")
    lines.append(f"{INDENT * 2}super().__init__()")
    lines += [f"{INDENT * 2}self.{name} = nn.Module()" for name in each.namespaces]
    for line in each.lines:
        lines += _assignment(line)
    inputs = [f"{name}: Tensor" for name in each.inputs]
    result = "Tensor" if len(each.scopes[0].outputs) == 1 else "tuple[Tensor, ...]"
    lines += ["", *_call(1, "def forward", ["self", *inputs], f" -> {result}:")]
    lines += [line for statement in each.body for line in _statement(statement)]
    return lines


def describe(title: str, inputs: list[str], outputs: list[str]) -> Iterator[str]:
    """Yield the lines of a module's docstring.

    Args:
        title: the name of the graph's file.
        inputs: the names of the inputs in the graph.
        outputs: the names of the outputs in the graph.
    """
    yield f'"""A network converted from the MXNet graph {quoted(title)} by gluon2torch.'
    for label, names in (("Inputs", inputs), ("Outputs", outputs)):
        yield ""
        yield f"{label}:"
        yield from (f"{INDENT}{quoted(name)}" for name in names)
    yield '"""'


def _places(each: ModuleClass) -> str:
    """Return the places of a class's instances, as many as a line holds."""
    places = [".".join(scope.path) for scope in each.scopes]
    for count in range(min(len(places), MAX_PLACES_CHARACTERS), 0, -1):
        more = f" and {len(places) - count} more" if count < len(places) else ""
        text = ", ".join(places[:count]) + more
        if len(text) <= MAX_PLACES_CHARACTERS:
            return text
    return f"{len(places)} instances"


def _type(value: Argument) -> str:
    if isinstance(value, tuple):
        return "tuple[int, ...]"
    return type(value).__name__


def _assignment(line: Line) -> list[str]:
    arguments = [_argument(key, value) for key, value in line.arguments.items()]
    if line.type in {PARAMETER, BUFFER}:
        sizes = f"torch.zeros({', '.join(arguments)})"
        if line.type == PARAMETER:
            return [f"{INDENT * 2}self.{line.name} = nn.Parameter({sizes})"]
        own = line.name.rpartition(".")[2]
        return [f'{INDENT * 2}self.{_owner(line.name)}register_buffer("{own}", {sizes})']
    if isinstance(line.type, str) and line.type.startswith(CONSTANT):
        own, value = line.name.rpartition(".")[2], line.type.removeprefix(CONSTANT)
        register = f"self.{_owner(line.name)}register_buffer"
        return _call(2, register, [f'"{own}"', value, "persistent=False"], "")
    kind = line.type if isinstance(line.type, str) else line.type.name
    constants = [f"{INDENT * 2}self.{line.name}.{name}.requires_grad_(False)" for name in line.constants]
    return _call(2, f"self.{line.name} = {kind}", arguments, "") + constants


def _owner(name: str) -> str:
    """Return the part of a member's name before its own, with the dot after it."""
    owner, dot, _ = name.rpartition(".")
    return owner + dot


def _argument(key: str, value: Argument | Name) -> str:
    text = value.text if isinstance(value, Name) else repr(value)
    return text if key.startswith("_") else f"{key}={text}"


def _call(depth: int, start: str, arguments: list[str], end: str) -> list[str]:
    """Return a call or the head of a function; one that is too long is split at its commas."""
    indent, inner = INDENT * depth, INDENT * (depth + 1)
    inside = ", ".join(arguments)
    whole = f"{indent}{start}({inside}){end}"
    if len(whole) <= WIDTH:
        return [whole]
    if len(inner) + len(inside) <= WIDTH:
        return [f"{indent}{start}(", f"{inner}{inside}", f"{indent}){end}"]
    return [f"{indent}{start}(", *(f"{inner}{each}," for each in arguments), f"{indent}){end}"]


def _statement(statement: str) -> list[str]:
    line = f"{INDENT * 2}{statement}"
    return [line if len(line) <= WIDTH else f"{line}  # fmt: skip"]


def input_names(names: list[str]) -> list[str]:
    """Return identifiers for the inputs of the network."""
    return [join(words(name), "data") for name in names]
