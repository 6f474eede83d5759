"""Writes and reads the table of an alignment: a line for each layer, in the order of the network.

A table gives the names of both sides, the rules and the settings, so that parameters with these names are
converted without the graph and without a search.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from converter import __version__, names
from converter.errors import MappingError
from converter.graphs.alignment.rules import FOLDED, RESHAPED, ZERO, Assignment, Plan
from converter.networks import mapping
from converter.targets import specification
from converter.targets.adaptation import ADAPTED, Adaptation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from converter.graphs.alignment.alignment import Alignment
    from converter.graphs.alignment.structure import AlignedLayer
    from converter.graphs.operators.code import Shape
    from converter.targets.specification import Target

MAX_BYTES = 1 << 20  # 651 layers take 70 KB
SEPARATOR = "_"  # between a layer and the role of its parameter, in MXNet's names


class LayerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a table.

    Attributes:
        target: the module, as ``--target`` takes it.
        arguments: those that it is built with.
        kinds: for each kind of layer, {role in the graph: role in PyTorch} of its tensors.
        layers: {name in the graph: (name in PyTorch, kind)}.
        tensors: {name in the graph: name in PyTorch} of tensors that no line of ``layers`` covers.
        zero_biases: names in PyTorch of the biases that the graph does not have.
        folded_biases: {bias in the graph: the running mean in the graph that it is subtracted from}.
        reshaped_weights: names in PyTorch of the weights that get another shape.
        fixed_gammas: names in the graph of the gammas in whose place it takes 1.
        settings: {"MODULE.SETTING": value} of the settings that are changed on the module.
    """

    target: str
    arguments: dict[str, Any] = {}
    kinds: dict[str, dict[str, str]]
    layers: dict[str, tuple[str, str]]
    tensors: dict[str, str] = {}
    zero_biases: tuple[str, ...] = ()
    folded_biases: dict[str, str] = {}
    reshaped_weights: tuple[str, ...] = ()
    fixed_gammas: tuple[str, ...] = ()
    settings: dict[str, float] = {}

    @property
    def adaptations(self) -> tuple[Adaptation, ...]:
        """The settings that are changed on the module."""
        split = ((place.rpartition("."), value) for place, value in self.settings.items())
        return tuple(
            Adaptation(module=module, setting=setting, value=value) for (module, _, setting), value in split
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """A table that was read.

    Attributes:
        table: its content.
        names: {name in the graph: name in PyTorch} of every tensor.
        file: the name of the file.
        sha256: its SHA-256.
    """

    table: LayerTable
    names: Mapping[str, str]
    file: str
    sha256: str

    @property
    def target(self) -> Target:
        """The module."""
        return specification.parse(self.table.target, self.table.arguments)

    @property
    def layers(self) -> int:
        """The number of layers: its lines, and the modules of the tensors that no line covers."""
        alone = {target.rpartition(".")[0] for target in self.table.tensors.values()}
        return len(self.table.layers) + len(alone)

    def plan(self, shapes: Mapping[str, Shape]) -> Plan:
        """Return how the tensors of the module are computed.

        Args:
            shapes: their shapes.

        Raises:
            MappingError: if the module lacks a tensor of the table.
        """
        table = self.table
        if unknown := [name for name in (*self.names.values(), *table.zero_biases) if name not in shapes]:
            raise MappingError(f"{self.file}: {table.target} has no tensor {names.printable(unknown[0])}")
        minus = {mean: bias for bias, mean in table.folded_biases.items()}
        first = next(iter(self.names))
        assignments = {
            target: Assignment(
                target=target, source=source, shape=shapes[target], like=source, minus=minus.get(source)
            )
            for source, target in self.names.items()
        } | {
            target: Assignment(target=target, source=None, shape=shapes[target], like=first)
            for target in table.zero_biases
        }
        rules = {
            ZERO: map(self._layer, table.zero_biases),
            FOLDED: (_layer_name(bias) for bias in table.folded_biases),
            RESHAPED: map(self._layer, table.reshaped_weights),
        }
        return Plan(
            assignments=assignments,
            rules={rule: layers for rule, found in rules.items() if (layers := tuple(dict.fromkeys(found)))},
            folded=frozenset(),
        )

    def _layer(self, tensor: str) -> str:
        """Return the name in the graph of the layer that has a tensor of the module."""
        owner = tensor.rpartition(".")[0]
        own = (source for source, target in self.names.items() if target.rpartition(".")[0] == owner)
        return _layer_name(next(own, tensor))


def read(path: Path) -> TableFile:
    """Read a table.

    Raises:
        StorageError: if the file cannot be read.
        MappingError: if it is not a table, or names a tensor twice.
        UsageError: if its target has no valid form.
    """
    document, content = mapping.load(path, MAX_BYTES)
    try:
        table = msgspec.convert(document, LayerTable)
    except msgspec.ValidationError as error:
        raise MappingError(f"{path.name}: not a table of layers: {error}") from error
    pairs = list(_tensors(table, path.name))
    for side in zip(*pairs, strict=True):
        mapping.require_one_to_one("tensor", side, path.name)
    if unknown := [place for place in table.settings if place.rpartition(".")[2] not in ADAPTED]:
        allowed = " and ".join(ADAPTED)
        raise MappingError(f"{path.name}: settings: {unknown[0]}: only {allowed} can be changed")
    found = TableFile(
        table=table, names=dict(pairs), file=path.name, sha256=hashlib.sha256(content).hexdigest()
    )
    if not pairs or not set(table.folded_biases.values()) <= found.names.keys():
        raise MappingError(f"{path.name}: names no layer, or folds a bias into a running mean that it lacks")
    return found


def _tensors(table: LayerTable, file: str) -> Iterator[tuple[str, str]]:
    for source, (target, kind) in table.layers.items():
        if kind not in table.kinds:
            raise MappingError(f"{file}: layers: {source}: unknown kind {kind!r}")
        for role, name in table.kinds[kind].items():
            yield f"{source}{SEPARATOR}{role}", f"{target}.{name}" if target else name
    yield from table.tensors.items()


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
        source, last = _split(ours.tensors[role])
        owner, _, name = theirs.tensors[role].rpartition(".")
        sources.add(source)
        owners.add(owner)
        renamed[last] = name
    if len(sources) != 1 or len(owners) != 1 or "" in sources or len(renamed) < len(roles):
        return None
    return sources.pop(), owners.pop(), renamed


def _split(variable: str) -> tuple[str, str]:
    """Return the layer's part of a parameter's name, and the role; that of a statistic has two words."""
    words = variable.split(SEPARATOR)
    count = 2 if words[-1] in {"mean", "var"} and words[-2:-1] in (["running"], ["moving"]) else 1
    return SEPARATOR.join(words[:-count]), SEPARATOR.join(words[-count:])


def _layer_name(variable: str) -> str:
    """Return the name of the layer of a parameter; the parameter's if it contains none."""
    return _split(variable)[0] or variable


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
