"""Writes the steps of a scope as the statements of ``forward``."""

from __future__ import annotations

import heapq
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.graphs.codegen.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.codegen.steps import Step
    from converter.graphs.graph import Entry

MAX_NESTED = 72  # characters of an expression that contains others
MAX_CALLS = 4  # in it
MAX_NAMES = 6  # on the left of an assignment


@dataclass(slots=True)
class _Value:
    """A value during ``forward``.

    Attributes:
        text: the expression that yields it.
        variable: the variable that it occupies, "" if it is nested in an expression.
        held: the variables that become free when it has been used.
    """

    text: str
    variable: str = ""
    held: list[str] = field(default_factory=list)


def forward(scope: Scope, names: list[str] | None) -> tuple[list[str], list[str]]:
    """Return the statements of a scope's ``forward``, and the names of its arguments.

    Args:
        scope: the scope.
        names: the names of the arguments; None to choose them.
    """
    return _Writer(scope, names).run()


class _Writer:
    def __init__(self, scope: Scope, names: list[str] | None) -> None:
        self.scope = scope
        self.uses = Counter(scope.outputs)
        for item in scope.items:
            self.uses.update(item.inputs)
        self.free: list[tuple[int, int, str]] = []  # a heap
        self.more = self._variables(set(names or ()))
        self.counts: Counter[str] = Counter()  # values that occupy a variable
        self.values: dict[Entry, _Value] = {}
        self.body: list[str] = []
        self.names = names if names is not None else [self._take() for _ in scope.inputs]
        for entry, name in zip(scope.inputs, self.names, strict=True):
            self.values[entry] = _Value(name, "" if names is not None else name)
            self.counts[name] += 1

    def run(self) -> tuple[list[str], list[str]]:
        for number, item in enumerate(self.scope.items):
            following = self.scope.items[number + 1] if number + 1 < len(self.scope.items) else None
            self._add(item, following)
        outputs = ", ".join(self.values[entry].text for entry in self.scope.outputs)
        self.body.append(f"return {outputs}")
        return self.body, self.names

    def _add(self, item: Step | Scope, following: Step | Scope | None) -> None:
        operands = [self.values[entry].text for entry in item.inputs]
        held: list[str] = []
        for entry in item.inputs:
            self.uses[entry] -= 1
            if not self.uses[entry]:
                value = self.values[entry]
                held += [*value.held, value.variable]
        text = _expression(item, operands, self.scope)
        entries = item.outputs if isinstance(item, Scope) else [(item.node, n) for n in range(item.outputs)]
        if len(entries) == 1 and self._is_nested(item, entries[0], following, text):
            self.values[entries[0]] = _Value(text, held=held)
            return
        for variable in filter(None, held):
            self._release(variable)
        if len(entries) <= MAX_NAMES:
            targets = [self._take() if self.uses[entry] else "_" for entry in entries]
            for entry, target in zip(entries, targets, strict=True):
                self.values[entry] = _Value(target, target)
        else:
            targets = [self._take()]
            self.counts[targets[0]] = sum(self.uses[entry] > 0 for entry in entries)
            for number, entry in enumerate(entries):
                self.values[entry] = _Value(f"{targets[0]}[{number}]", targets[0])
        self.body.append(f"{', '.join(targets)} = {text}")

    def _is_nested(self, item: Step | Scope, entry: Entry, following: Step | Scope | None, text: str) -> bool:
        """Return whether an expression is written inside the next one, or after ``return``."""
        if self.uses[entry] != 1:
            return False
        if following is None:
            return self.scope.outputs == [entry]
        if following.inputs.count(entry) != 1:
            return False
        if not isinstance(following, Scope):
            place = f"{{{following.inputs.index(entry)}}}"
            enclosed = re.search(rf"(\(|\[|, ){re.escape(place)}[,)\]]", following.template)
            if following.template.count(place) != 1 or not (enclosed or _is_atom(item)):
                return False
        if len(text) > MAX_NESTED:
            return False
        whole = _expression(following, [text] * len(following.inputs), self.scope)
        return len(whole) <= MAX_NESTED and text.count("(") < MAX_CALLS

    def _take(self) -> str:
        variable = heapq.heappop(self.free)[-1] if self.free else next(self.more)
        self.counts[variable] = 1
        return variable

    def _release(self, variable: str) -> None:
        self.counts[variable] -= 1
        if not self.counts[variable]:
            heapq.heappush(self.free, _variable_order(variable))

    def _variables(self, taken: set[str]) -> Iterator[str]:
        numbered = (f"v{number}" for number in itertools.count(1))
        return (name for name in itertools.chain("xyzuvw", numbered) if name not in taken)


def _variable_order(name: str) -> tuple[int, int, str]:
    return (0, "xyzuvw".find(name), name) if len(name) == 1 else (1, len(name), name)


def _expression(item: Step | Scope, operands: list[str], scope: Scope) -> str:
    """Return the application of an item to its operands."""
    if isinstance(item, Scope):
        return f"self.{'.'.join(item.path[len(scope.path) :])}({', '.join(operands)})"
    layer = f"self.{'.'.join(item.member.path[len(scope.path) :])}" if item.member else ""
    return item.template.format(*operands, layer=layer)


def _is_atom(item: Step | Scope) -> bool:
    """Return whether an item's expression is a call or a name, and needs no parentheses inside another."""
    if isinstance(item, Scope) or item.template == "{layer}":
        return True
    match = re.match(r"(\{layer\}|(F|torch)\.\w+|\w+|\{0\}\.\w+)\(", item.template)
    if match is None:
        return False
    depth = 1
    for place in range(match.end(), len(item.template)):
        depth += {"(": 1, ")": -1}.get(item.template[place], 0)
        if depth == 0:
            return place == len(item.template) - 1
    return False
