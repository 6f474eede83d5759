"""Groups the steps of a program by the scopes of their names: each becomes a module with its own ``forward``.

A scope is the common beginning of several layers' names, such as ``stage1_unit1``. If values leave it and
come back, it is no module of its own: its layers keep their names, and its steps belong to the module
around it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.graphs.codegen.identifiers import common_start, join, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.codegen.steps import Member, Program, Step
    from converter.graphs.graph import Entry

Words = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Scope:
    """A part of a program.

    Attributes:
        path: its place: the names of the scopes around it, and its own.
        items: its steps and parts, each after those that it depends on.
        namespaces: the paths of scopes in it that are no modules of their own.
        inputs: the entries that it takes.
        outputs: the entries that it returns.
    """

    path: tuple[str, ...]
    items: list[Step | Scope] = field(default_factory=list)
    namespaces: list[tuple[str, ...]] = field(default_factory=list)
    inputs: list[Entry] = field(default_factory=list)
    outputs: list[Entry] = field(default_factory=list)

    def steps(self) -> Iterator[Step]:
        """Yield the steps of the scope and its parts, in order."""
        for item in self.items:
            if isinstance(item, Scope):
                yield from item.steps()
            else:
                yield item


def group(program: Program) -> Scope:
    """Return a program as nested scopes, and set the paths of its members."""
    tree = _Tree()
    members = list({id(step.member): step.member for step in program.steps if step.member}.values())
    start = _shared_start([member.words for member in members if member.tensors and not member.is_tensor])
    for member in members:
        if member.tensors:
            tree.add(_without(member.words, start))
    tree.compress()
    _set_paths(members, tree, start)
    places = {step: tree.scope(_place(step, start)) for step in program.steps}
    _follow_inputs(program, places)
    root = _nest(program, places)
    _order(root)
    connect(root, program)
    return root


class _Tree:
    """The words of the layers' names as a tree."""

    def __init__(self) -> None:
        self.children: dict[Words, set[str]] = {(): set()}
        self.ends: set[Words] = set()
        self.scopes: set[Words] = {()}

    def add(self, words: Words) -> None:
        for count in range(len(words)):
            self.children.setdefault(words[:count], set()).add(words[count])
        self.ends.add(words)

    def compress(self) -> None:
        """Keep as scopes only the places where names differ."""
        self.scopes |= {words for words, following in self.children.items() if len(following) > 1}

    def scope(self, words: Words) -> Words:
        """Return the innermost scope in which a name lies."""
        for count in range(len(words) - 1, 0, -1):
            if words[:count] in self.scopes:
                return words[:count]
        return ()

    def path(self, scope: Words) -> list[Words]:
        """Return a scope and those around it, from the outermost on."""
        return [scope[:count] for count in range(1, len(scope) + 1) if scope[:count] in self.scopes]


def _set_paths(members: list[Member], tree: _Tree, start: Words) -> None:
    """Give every member its place: the names of the scopes around it, and its own."""
    taken: dict[tuple[str, ...], dict[str, int]] = {(): {}}
    names: dict[Words, tuple[str, ...]] = {(): ()}
    for member in members:
        words = _without(member.words, start)
        scope = tree.scope(words)
        outer: Words = ()
        for place in tree.path(scope):
            if place not in names:
                name = unique(join(place[len(outer) :], "scope"), taken[names[outer]])
                names[place] = (*names[outer], name)
                taken[names[place]] = {}
            outer = place
        own = unique(join(words[len(scope) :], "layer"), taken[names[scope]])
        member.path = (*names[scope], own)


def _place(step: Step, start: Words) -> Words:
    return _without(step.member.words if step.member else step.words, start)


def _follow_inputs(program: Program, places: dict[Step, Words]) -> None:
    """Move a step that joins values, and whose name says nothing, to its last input's scope."""
    producers = {(step.node, number): step for step in program.steps for number in range(step.outputs)}
    for step in program.steps:
        joins = len(step.inputs) > 1 and step.member is None and places[step] == ()
        before = [producers[entry] for entry in step.inputs if entry in producers]
        if joins and before:
            places[step] = places[max(before, key=lambda each: each.node)]


def _nest(program: Program, places: dict[Step, Words]) -> Scope:
    """Return the scopes with their steps, without any order."""
    root = Scope(())
    scopes: dict[tuple[str, ...], Scope] = {(): root}
    paths: dict[Words, tuple[str, ...]] = {}
    for step in program.steps:
        if step.member and len(step.member.path) > 1:
            paths.setdefault(places[step], step.member.path[:-1])
    for step in program.steps:
        path = step.member.path[:-1] if step.member else paths.get(places[step], ())
        for count in range(1, len(path) + 1):
            if path[:count] not in scopes:
                scopes[path[:count]] = Scope(path[:count])
                scopes[path[: count - 1]].items.append(scopes[path[:count]])
        scopes[path].items.append(step)
    return root


def _order(root: Scope) -> None:
    """Order the items of all scopes, and dissolve those that depend on each other."""
    waiting = [root]
    while waiting:
        scope = waiting.pop()
        while cycle := _sort(scope):
            _dissolve(scope, cycle)
        waiting += [item for item in scope.items if isinstance(item, Scope)]


def _dissolve(scope: Scope, parts: list[Scope]) -> None:
    """Move the items of some parts to the scope around them."""
    dissolved = set(parts)
    scope.items = [item for item in scope.items if item not in dissolved]
    for part in parts:
        scope.namespaces += [part.path, *part.namespaces]
        scope.items += part.items


def _sort(scope: Scope) -> list[Scope]:
    """Sort the items of a scope; if they cannot be, return the parts that depend on each other."""
    owner: dict[Entry, Step | Scope] = {}
    wanted: dict[Step | Scope, set[Entry]] = {}
    rank: dict[Step | Scope, int] = {}
    for item in scope.items:
        steps = list(item.steps()) if isinstance(item, Scope) else [item]
        owner.update({(step.node, number): item for step in steps for number in range(step.outputs)})
        wanted[item] = {entry for step in steps for entry in step.inputs}
        rank[item] = max(step.node for step in steps)
    before = {
        item: {owner[entry] for entry in entries if entry in owner} - {item}
        for item, entries in wanted.items()
    }
    after: dict[Step | Scope, list[Step | Scope]] = {item: [] for item in scope.items}
    for item, sources in before.items():
        for source in sources:
            after[source].append(item)
    open_counts = {item: len(sources) for item, sources in before.items()}
    ready = [(rank[item], number) for number, item in enumerate(scope.items) if not open_counts[item]]
    numbers = {item: number for number, item in enumerate(scope.items)}
    heapq.heapify(ready)
    done: list[Step | Scope] = []
    while ready:
        _, number = heapq.heappop(ready)
        item = scope.items[number]
        done.append(item)
        for following in after[item]:
            open_counts[following] -= 1
            if not open_counts[following]:
                heapq.heappush(ready, (rank[following], numbers[following]))
    if len(done) == len(scope.items):
        scope.items = done
        return []
    return _cyclic({item for item, count in open_counts.items() if count}, before)


def _cyclic(left: set[Step | Scope], before: dict[Step | Scope, set[Step | Scope]]) -> list[Scope]:
    """Return the parts on cycles, or leading from one to another: those with a successor that is left."""
    following: dict[Step | Scope, int] = dict.fromkeys(left, 0)
    for item in left:
        for source in before[item] & left:
            following[source] += 1
    waiting = [item for item, count in following.items() if not count]
    while waiting:
        item = waiting.pop()
        left.discard(item)
        for source in before[item] & left:
            following[source] -= 1
            if not following[source]:
                waiting.append(source)
    return [item for item in left if isinstance(item, Scope)]


def connect(root: Scope, program: Program) -> None:
    """Set the inputs and outputs of every scope."""
    users: dict[Entry, set[Step | None]] = {entry: {None} for entry in program.outputs}
    for step in program.steps:
        for entry in step.inputs:
            users.setdefault(entry, set()).add(step)
    waiting = [root]
    while waiting:
        scope = waiting.pop()
        steps = list(scope.steps())
        inside = set(steps)
        produced = [(step.node, number) for step in steps for number in range(step.outputs)]
        own = set(produced)
        scope.inputs = list(
            dict.fromkeys(entry for step in steps for entry in step.inputs if entry not in own)
        )
        scope.outputs = [entry for entry in produced if users.get(entry, set()) - inside]
        waiting += [item for item in scope.items if isinstance(item, Scope)]
    root.inputs = [(index, 0) for index in program.inputs]
    root.outputs = list(program.outputs)


def _shared_start(names: list[Words]) -> Words:
    """Return the words with which all names begin; every name keeps at least one word after them."""
    shared = common_start(names)
    shortest = min(map(len, names), default=0)
    return shared[: max(0, shortest - 1)]


def _without(words: Words, start: Words) -> Words:
    return words[len(start) :] if words[: len(start)] == start else words
