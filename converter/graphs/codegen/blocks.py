"""Groups repeated parts of a scope whose names tell nothing, such as the residual blocks of one stage.

A part begins and ends where a single value passes through the network. If its structure occurs more than
once, it becomes a scope of its own.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

from converter.graphs.codegen.identifiers import join, unique
from converter.graphs.codegen.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Hashable

    from converter.graphs.codegen.steps import Step
    from converter.graphs.graph import Entry

    Part = list[Step | Scope]

MIN_MEMBERS = 2  # of a part
NAME = "block"


def group_repeated(root: Scope) -> None:
    """Make scopes of the repeated parts in all scopes; every scope's items are in order."""
    parts: list[tuple[Scope, list[Part]]] = []
    waiting = [root]
    while waiting:
        scope = waiting.pop()
        waiting += [item for item in scope.items if isinstance(item, Scope)]
        parts.append((scope, _parts(scope, set(root.outputs))))
    counts = Counter(_structure(part) for _, each in parts for part in each if _members(part) >= MIN_MEMBERS)
    for scope, each in parts:
        repeated = [_members(part) >= MIN_MEMBERS and counts[_structure(part)] > 1 for part in each]
        if any(repeated) and len(each) > 1:
            _replace(scope, each, repeated)


def _parts(scope: Scope, outputs: set[Entry]) -> list[Part]:
    """Divide a scope where one value passes, and add to a part the functions that follow it."""
    items = scope.items
    last: dict[Entry, int] = {entry: len(items) for entry in [*scope.outputs, *outputs]}
    for number, item in enumerate(items):
        last.update(dict.fromkeys((entry for entry in _needs(item) if last.get(entry, 0) < number), number))
    parts: list[Part] = [[]]
    live = {entry for entry in scope.inputs if entry in last}
    ending: dict[int, list[Entry]] = {}
    for entry, number in last.items():
        ending.setdefault(number, []).append(entry)
    for number, item in enumerate(items):
        parts[-1].append(item)
        live |= {entry for entry in _yields(item) if last.get(entry, -1) > number}
        live.difference_update(ending.get(number, ()))
        following = items[number + 1] if number + 1 < len(items) else None
        if len(live) <= 1 and not (len(parts[-1]) > 1 and _is_function(following)):
            parts.append([])
    return [part for part in parts if part]


def _needs(item: Step | Scope) -> set[Entry]:
    steps = list(item.steps()) if isinstance(item, Scope) else [item]
    return {entry for step in steps for entry in step.inputs}


def _yields(item: Step | Scope) -> set[Entry]:
    steps = list(item.steps()) if isinstance(item, Scope) else [item]
    return {(step.node, number) for step in steps for number in range(step.outputs)}


def _is_function(item: Step | Scope | None) -> bool:
    """Return whether an item is a function of one value, such as an activation."""
    return not (item is None or isinstance(item, Scope) or item.member or len(item.inputs) != 1)


def _members(part: Part) -> int:
    """Return the number of layers in a part outside its scopes, whose names tell enough."""
    return sum(not isinstance(item, Scope) and item.member is not None for item in part)


def _structure(part: Part) -> Hashable:
    """Return what two parts have in common if they can be instances of one class."""
    numbers: dict[Entry, int] = {}
    described = []
    for item in part:
        for step in item.steps() if isinstance(item, Scope) else [item]:
            inputs = tuple(numbers.setdefault(entry, len(numbers)) for entry in step.inputs)
            kind = step.member.type if step.member else ""
            described.append((step.template, kind, inputs))
            for number in range(step.outputs):
                numbers.setdefault((step.node, number), len(numbers))
    return tuple(described)


def _replace(scope: Scope, parts: list[Part], repeated: list[bool]) -> None:
    """Replace the repeated parts of a scope with scopes."""
    depth = len(scope.path)
    members = {id(step.member): step.member.path for step in scope.steps() if step.member}
    taken = {path[depth] for path in members.values()}
    numbers = (number for number in itertools.count(1) if f"{NAME}{number}" not in taken)
    uses = Counter(id(step.member) for step in scope.steps() if step.member)
    items: Part = []
    for part, is_repeated in zip(parts, repeated, strict=True):
        if not is_repeated or _shares_members(scope, part, uses):
            items += part
            continue
        path = (*scope.path, f"{NAME}{next(numbers)}")
        items.append(Scope(path, part))
        _rename(part, depth, path)
    scope.items = items


def _shares_members(scope: Scope, part: Part, uses: Counter[int]) -> bool:
    """Return whether a layer of a part is used outside it, or lies in a namespace.

    Args:
        scope: the scope.
        part: the part.
        uses: the number of steps in the scope that use each member, by its ``id``.
    """
    steps = (step for item in part for step in (item.steps() if isinstance(item, Scope) else [item]))
    own = Counter(id(step.member) for step in steps if step.member)
    return any(count < uses[member] for member, count in own.items()) or any(
        len(item.path) != len(scope.path) + 1
        if isinstance(item, Scope)
        else item.member is not None and len(item.member.path) != len(scope.path) + 1
        for item in part
    )


def _rename(part: Part, depth: int, path: tuple[str, ...]) -> None:
    """Give the members and scopes of a part their places in its scope, numbered by their order there."""
    paths: dict[tuple[str, ...], None] = {}
    for item in part:
        for step in item.steps() if isinstance(item, Scope) else [item]:
            if step.member:
                paths.setdefault(step.member.path[: depth + 1])
    bases = {old: re.sub(r"_?[0-9]+$", "", old[depth]) or old[depth] for old in paths}
    totals, numbers = Counter(bases.values()), Counter[str]()
    new: dict[tuple[str, ...], tuple[str, ...]] = {}
    taken: dict[str, int] = {}
    for old, base in bases.items():
        numbers[base] += 1
        name = base if totals[base] == 1 else f"{base}{numbers[base]}"
        new[old] = (*path, unique(join((name,), "layer"), taken))
    done: set[int] = set()
    for item in part:
        for inner in _scopes(item):
            inner.path = new[inner.path[: depth + 1]] + inner.path[depth + 1 :]
            inner.namespaces = [new[each[: depth + 1]] + each[depth + 1 :] for each in inner.namespaces]
        for step in item.steps() if isinstance(item, Scope) else [item]:
            if step.member and id(step.member) not in done:
                done.add(id(step.member))
                step.member.path = new[step.member.path[: depth + 1]] + step.member.path[depth + 1 :]


def _scopes(item: Step | Scope) -> list[Scope]:
    if not isinstance(item, Scope):
        return []
    return [item, *(inner for each in item.items for inner in _scopes(each))]
