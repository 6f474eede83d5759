"""Writes the table of an alignment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from converter import __version__, names
from converter.errors import MappingError
from converter.targets import layer_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from converter.graphs.alignment.alignment import Alignment
    from converter.graphs.alignment.structure import AlignedLayer
    from converter.targets.adaptation import Adaptation
    from converter.targets.specification import Target


def write(
    alignment: Alignment,
    target: Target,
    adaptations: Sequence[Adaptation],
    ones: Collection[str],
    graph_sha256: str,
) -> str:
    """Return the table of an alignment as TOML.

    Args:
        alignment: the layers of both sides.
        target: the module.
        adaptations: the settings that are changed on it.
        ones: the gammas in whose place the graph takes 1.
        graph_sha256: the SHA-256 of the graph's file.
    """
    kinds: dict[str, dict[str, str]] = {}
    layers, tensors = {}, {}
    seen: set[str] = set()
    for one, other in alignment.pairs.items():
        ours, theirs = alignment.graph.layers[one], alignment.module.layers[other]
        roles = [role for role in theirs.tensors if role in ours.tensors and ours.tensors[role] not in seen]
        seen.update(ours.tensors[role] for role in roles)
        line = _line(ours, theirs, roles)
        if line is None or line[0] in layers:
            tensors.update({ours.tensors[role]: theirs.tensors[role] for role in roles})
        elif roles:
            source, owner, renamed = line
            layers[source] = (owner, _kind(kinds, ours.kind, renamed))
    versions = " and ".join(f"{package} {version}" for package, version in target.versions.items())
    lines = [
        f"# {_comment(alignment.graph.title)} → {target.text}.",
        f"# Found by gluon2torch {__version__} in the graph with the SHA-256 {graph_sha256},",
        f"# with {versions}.",
        "# Each line of [layers] is a layer: its name in the graph's parameters, in PyTorch, and its kind.",
        "",
        f"target = {_text(target.text)}",
        *_lists(alignment, ones),
        *_table("arguments", target.arguments),
        *_table("settings", {_place(each): each.value for each in adaptations}),
        *_table("folded_biases", _folded(alignment)),
        *(line for kind, roles in kinds.items() for line in _table(f"kinds.{_text(kind)}", roles)),
        *_table("layers", layers, empty=True),
        *_table("tensors", tensors),
    ]
    return "\n".join(lines) + "\n"


def _line(
    ours: AlignedLayer, theirs: AlignedLayer, roles: Sequence[str]
) -> tuple[str, str, dict[str, str]] | None:
    """Return a layer's names on both sides and its roles; None if its tensors have no common name."""
    sources, owners, renamed = set(), set(), {}
    for role in roles:
        source, last = layer_table.split(ours.tensors[role])
        owner, _, name = theirs.tensors[role].rpartition(".")
        sources.add(source)
        owners.add(owner)
        renamed[last] = name
    if len(sources) != 1 or len(owners) != 1 or "" in sources or len(renamed) < len(roles):
        return None
    return sources.pop(), owners.pop(), renamed


def _kind(kinds: dict[str, dict[str, str]], name: str, roles: dict[str, str]) -> str:
    """Return the name of a kind of layers with these roles, and add it if it is new."""
    number = 1
    while kinds.setdefault(key := name if number == 1 else f"{name} {number}", roles) != roles:
        number += 1
    return key


def _lists(alignment: Alignment, ones: Collection[str]) -> Iterator[str]:
    """Yield the rules that only list tensors, and the fixed gammas."""
    assignments = alignment.plan.assignments.values()
    zeros = [each.target for each in assignments if each.source is None]
    reshaped = [
        module.tensors["weight"]
        for graph, module in _pairs(alignment)
        if graph.kind != module.kind and "weight" in module.tensors
    ]
    fixed = [each.source for each in assignments if each.source in ones]
    for key, values in (("zero_biases", zeros), ("reshaped_weights", reshaped), ("fixed_gammas", fixed)):
        if values:
            yield f"{key} = ["
            yield from (f"    {_text(str(value))}," for value in dict.fromkeys(values))
            yield "]"


def _pairs(alignment: Alignment) -> Iterator[tuple[AlignedLayer, AlignedLayer]]:
    for one, other in alignment.pairs.items():
        yield alignment.graph.layers[one], alignment.module.layers[other]


def _folded(alignment: Alignment) -> dict[str, str]:
    assignments = alignment.plan.assignments.values()
    return {each.minus: str(each.source) for each in assignments if each.minus is not None}


def _place(adaptation: Adaptation) -> str:
    return ".".join(filter(None, [adaptation.module, adaptation.setting]))


def _table(name: str, content: Mapping[str, Any], *, empty: bool = False) -> Iterator[str]:
    """Yield a table of TOML, nothing if it has no lines."""
    if content or empty:
        yield ""
        yield f"[{name}]"
        yield from (f"{_text(key)} = {_value(value)}" for key, value in content.items())


def _value(value: object) -> str:
    """Return a value of JSON as TOML.

    Raises:
        MappingError: if it has no form in TOML: null.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if value is None:
        raise MappingError("a table of layers cannot contain null: leave the argument out of --target-args")
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    """Return a string of TOML, whose escapes are those of JSON except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(title: str) -> str:
    return names.printable(names.clipped(title))
