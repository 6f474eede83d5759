"""Makes one class of the scopes that have the same structure, and finds the arguments they differ in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.graphs.codegen.identifiers import RESERVED_CLASSES, class_name, unique
from converter.graphs.codegen.scopes import Scope
from converter.graphs.codegen.statements import forward

if TYPE_CHECKING:
    from converter.graphs.codegen.steps import Member
    from converter.graphs.operators.code import Argument, Arguments

ROOT = "Network"
# The values of PyTorch's arguments that are not written.
DEFAULTS: Arguments = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": False,
    "ceil_mode": False,
    "count_include_pad": True,
}
# Arguments that are numbers of channels: equal ones are one parameter of a class.
WIDTHS = {
    "_in": "inputs",
    "_out": "outputs",
    "_channels": "channels",
    "_count": "channels",
    "groups": "groups",
}


@dataclass(slots=True)
class Line:
    """A line of ``__init__``: a member, or a part.

    Attributes:
        name: its name, with dots if it lies in a namespace.
        type: its class.
        sources: the member or part of each instance.
        arguments: the arguments that all instances share, and the names of the parameters for the others.
        constants: the names of its tensors that are not trained.
    """

    name: str
    type: str | ModuleClass
    sources: list[Member | Scope] = field(default_factory=list)
    arguments: dict[str, Argument | Name] = field(default_factory=dict)
    constants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a parameter of a class, in place of a value."""

    text: str


@dataclass(slots=True, eq=False)
class ModuleClass:
    """A class of the generated module.

    Attributes:
        name: its name.
        lines: the lines of ``__init__``.
        body: the statements of ``forward``.
        inputs: the names of the arguments of ``forward``.
        namespaces: the names of modules that only hold others.
        scopes: its instances.
        parameters: the arguments of ``__init__``, with their values in each instance.
        widths: those that are numbers of channels.
    """

    name: str
    lines: list[Line]
    body: list[str]
    inputs: list[str]
    namespaces: list[str]
    scopes: list[Scope] = field(default_factory=list)
    parameters: dict[str, tuple[Argument, ...]] = field(default_factory=dict)
    widths: set[str] = field(default_factory=set)


def fold(root: Scope, inputs: list[str]) -> list[ModuleClass]:
    """Return the classes of all scopes, parts before the classes that contain them.

    Args:
        root: the whole program.
        inputs: the names of its inputs.
    """
    classes: dict[object, ModuleClass] = {}
    names = dict.fromkeys(RESERVED_CLASSES, 1)
    owners: dict[Scope, ModuleClass] = {}
    for scope in _parts_first(root):
        body, arguments = forward(scope, inputs if scope is root else None)
        lines = _lines(scope, owners)
        namespaces = sorted(_relative(path, scope) for path in scope.namespaces)
        types = tuple((line.name, line.type, line.constants) for line in lines)
        key = (types, tuple(body), tuple(arguments), tuple(namespaces), scope is root)
        if key not in classes:
            name = ROOT if scope is root else unique(class_name(scope.path[-1]), names, "")
            empty = [Line(line.name, line.type, constants=line.constants) for line in lines]
            classes[key] = ModuleClass(name, empty, body, arguments, namespaces)
        owners[scope] = classes[key]
        owners[scope].scopes.append(scope)
        for own, line in zip(owners[scope].lines, lines, strict=True):
            own.sources += line.sources
    places = {scope: number for each in classes.values() for number, scope in enumerate(each.scopes)}
    for each in classes.values():
        _parametrize(each, places)
    return list(classes.values())


def _parts_first(root: Scope) -> list[Scope]:
    order, waiting = [], [root]
    while waiting:
        scope = waiting.pop()
        order.append(scope)
        waiting += [item for item in scope.items if isinstance(item, Scope)]
    return order[::-1]


def _lines(scope: Scope, owners: dict[Scope, ModuleClass]) -> list[Line]:
    lines: dict[tuple[str, ...], Line] = {}
    for item in scope.items:
        if isinstance(item, Scope):
            lines[item.path] = Line(_relative(item.path, scope), owners[item], [item])
        elif item.member:
            path = item.member.path
            member = item.member
            line = Line(_relative(path, scope), member.type, [member], constants=member.constants)
            lines.setdefault(path, line)
    return list(lines.values())


def _relative(path: tuple[str, ...], scope: Scope) -> str:
    return ".".join(path[len(scope.path) :])


def _parametrize(each: ModuleClass, places: dict[Scope, int]) -> None:
    """Set the arguments of the lines, and the class's parameters: those in which its instances differ."""
    names: dict[tuple[str, tuple[Argument, ...]], str] = {}
    taken: dict[str, int] = {}
    for line in each.lines:
        given = [_arguments(line.type, source, places) for source in line.sources]
        for key in sorted({key: None for arguments in given for key in arguments}, key=_argument_order):
            values = tuple(arguments.get(key, DEFAULTS.get(key, 0)) for arguments in given)
            if len(set(map(repr, values))) == 1:
                if isinstance(line.type, ModuleClass) or values[0] != DEFAULTS.get(key):
                    line.arguments[key] = values[0]
                continue
            kind = WIDTHS.get(key, key.strip("_"))
            kind = f"size_{kind}" if kind.isdecimal() else kind
            is_width = key in (line.type.widths if isinstance(line.type, ModuleClass) else WIDTHS)
            same = ("width" if is_width else kind, values)
            if same not in names:
                leaf = line.name.rpartition(".")[2]
                names[same] = unique(kind if kind not in taken else f"{leaf}_{kind}", taken)
                each.parameters[names[same]] = values
                each.widths |= {names[same]} if is_width else set()
            line.arguments[key] = Name(names[same])


def _argument_order(key: str) -> int:
    """Return the place of an argument: those without a default first, in their order, then as in PyTorch."""
    return [*DEFAULTS].index(key) if key in DEFAULTS else -1


def _arguments(kind: str | ModuleClass, source: Member | Scope, places: dict[Scope, int]) -> Arguments:
    if isinstance(kind, ModuleClass) and isinstance(source, Scope):
        return {name: values[places[source]] for name, values in kind.parameters.items()}
    return {} if isinstance(source, Scope) else source.arguments
