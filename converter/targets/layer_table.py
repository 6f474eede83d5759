"""The table of an alignment: a line for each layer, in the order of the network.

A table gives the names of both sides, the rules and the settings, so that parameters with these names are
converted without the graph and without a search.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from converter import names
from converter.errors import MappingError
from converter.graphs.alignment.rules import FOLDED, RESHAPED, ZERO, Assignment, Plan
from converter.networks import mapping
from converter.targets import specification
from converter.targets.adaptation import ADAPTED, Adaptation, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
    settings: dict[str, Value] = {}

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
        allowed = ", ".join(ADAPTED)
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


def split(variable: str) -> tuple[str, str]:
    """Return the layer's part of a parameter's name, and the role; that of a statistic has two words."""
    words = variable.split(SEPARATOR)
    count = 2 if words[-1] in {"mean", "var"} and words[-2:-1] in (["running"], ["moving"]) else 1
    return SEPARATOR.join(words[:-count]), SEPARATOR.join(words[-count:])


def _layer_name(variable: str) -> str:
    """Return the name of the layer of a parameter; the parameter's if it contains none."""
    return split(variable)[0] or variable
