"""Detect which of Gluon's naming styles a file uses and resolve its names to structural names.

| dialect            | written by                                    | example                              |
|--------------------|-----------------------------------------------|--------------------------------------|
| structural         | ``net.save_parameters``                       | ``features.4.0.body.1.gamma``        |
| prefix             | ``net.collect_params().save``                 | ``resnext0_stage1_batchnorm0_gamma`` |
| stripped prefix    | ``net.save_params``, or a net's ``prefix=''`` | ``stage1_batchnorm0_gamma``          |
| export             | ``net.export``                                | ``arg:resnext0_conv0_weight``        |
| export, structural | ``net.export`` in MXNet 2                     | ``arg:features.0.weight``            |

Prefix names number the layers of a kind within a scope in the order of their creation, so a layer that
replaces another gets the next free number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter import names
from converter.errors import DialectError, MappingError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from converter.networks.mapping import Mapping

STRUCTURAL, PREFIX, STRIPPED = "structural", "prefix", "stripped prefix"
EXPORT, EXPORT_STRUCTURAL = "export", "export, structural"
MARKS = re.compile(r"(arg|aux):")
COUNTED = re.compile(
    r"(?P<prefix>.*?)(?:(?P<scope>(?:stage|layers|down)[0-9]+)_)?"
    r"(?:(?P<conv>conv)|(?P<batchnorm>(?:sync)?batchnorm[a-z]*)|(?P<dense>dense))(?P<number>[0-9]{1,9})_"
    r"(?P<role>weight|bias|gamma|beta|(?:running|moving)_(?:mean|var))"
)
MOVING = re.compile(r"(?<=[._])moving_(?=(mean|var)$)")  # the spelling of MXNet's symbol API
SUPPORTED = (
    "supported: features.0.weight (net.save_parameters), resnext0_conv0_weight "
    "(net.collect_params().save) and arg:resnext0_conv0_weight (net.export)"
)
MAX_NAME_CHARACTERS = 200  # a network nested in many others may need half of them
HEAD = "dense"  # a replaced head may have another prefix than the other layers
PLURALS = {"conv": "convolutions", "batchnorm": "BatchNorms", "dense": "dense layers"}

Counter = tuple[str, str]  # the scope, and the kind of layer that is numbered in it
Roles = dict[str, str]  # a layer's arrays: {role: name in the file}


@dataclass(frozen=True, slots=True)
class NamingStyle:
    """The naming style of a file, with its names in the file's order.

    Attributes:
        file: the file, for messages.
        dialect: the style.
        prefix: the common beginning of prefix names, such as "resnext0_".
        names: the file's prefix names.
        structural: the file's names by structural name; empty if they are prefix names.
        counted: the layers of prefix names by their numbers; empty if the names are structural.
    """

    file: str
    dialect: str
    prefix: str = ""
    names: tuple[str, ...] = ()
    structural: dict[str, str] = field(default_factory=dict)
    counted: dict[Counter, dict[int, Roles]] = field(default_factory=dict)

    def resolve(self, mapping: Mapping) -> dict[str, str]:
        """Return {structural name: name in the file}; prefix names are matched with a mapping's layers.

        Raises:
            MappingError: if a scope has more or fewer layers of a kind than the mapping, or if neither
                the numbers nor the file's order determine the order of the layers.
        """
        if self.structural:
            return self.structural
        expected: dict[Counter, list[str]] = {}
        for layer in mapping.layers:
            if layer.counter:
                expected.setdefault(layer.counter, []).append(layer.source)
        self._require_counts({counter: len(layers) for counter, layers in expected.items()}, mapping)
        file_names = {
            f"{layer}.{role}": name
            for counter, layers in expected.items()
            for layer, roles in zip(layers, self._in_order(counter), strict=True)
            for role, name in roles.items()
        }
        self._require_certain(file_names, mapping)
        return file_names

    def overlap(self, mapping: Mapping) -> float:
        """Return the overlap (Jaccard index, 0 to 1) of the parameters named here and in a mapping."""
        if self.structural:
            own: set[object] = {*self.structural}
            expected: set[object] = {*mapping.to_target()}
        else:
            own = {
                (counter, place, role)
                for counter, layers in self.counted.items()
                for place, (_, roles) in enumerate(sorted(layers.items()))
                for role in roles
            }
            places: dict[Counter, dict[str, int]] = {}
            expected = set()
            for tensor in mapping.tensors:
                if counter := tensor.layer.counter:
                    numbers = places.setdefault(counter, {})
                    place = numbers.setdefault(tensor.layer.source, len(numbers))
                    expected.add((counter, place, tensor.source_role))
        return len(own & expected) / len(own | expected)

    def stripped(self) -> dict[str, str]:
        """Return {name without prefix: name in the file}, numbered from 0 as in a new GluonCV network.

        Numbers without gaps do not change. Empty if the names are structural.
        """
        return {
            f"{scope}{'_' if scope else ''}{kind}{place}_{role}": name
            for scope, kind in self.counted
            for place, roles in enumerate(self._in_order((scope, kind)))
            for role, name in roles.items()
        }

    def _in_order(self, counter: Counter) -> list[Roles]:
        """Return the layers of a kind in a scope in the network's order.

        Numbers from 0 without gaps are those of an unchanged network, in its order. A replaced layer
        leaves a gap: then the numbers do not determine the order, and the file's order is used.
        """
        layers = self.counted[counter]
        return [layers[number] for number in (sorted(layers) if _is_whole(layers) else layers)]

    def _require_certain(self, file_names: dict[str, str], mapping: Mapping) -> None:
        """Refuse numbers with gaps unless the file is in the network's order, as Gluon's files are."""
        ambiguous = [counter for counter, layers in self.counted.items() if not _is_whole(layers)]
        in_order = [file_names[tensor.source] for tensor in mapping.tensors if tensor.source in file_names]
        if ambiguous and in_order != list(self.names):
            lines = [
                f"{scope or 'outside the stages'}: {PLURALS[kind]} {list(self.counted[scope, kind])}"
                for scope, kind in ambiguous
            ]
            headline = (
                f"{self.file}: the layer numbers have gaps and the file is not in the network's order, "
                "so the layers cannot be identified"
            )
            hint = "save the network with net.save_parameters"
            raise MappingError("\n  ".join([headline, *names.shorten(lines), hint]))

    def _require_counts(self, expected: dict[Counter, int], mapping: Mapping) -> None:
        counts = {counter: len(layers) for counter, layers in self.counted.items()}
        lines = [
            f"{scope or 'outside the stages'}: expected {expected.get((scope, kind), 0)} {PLURALS[kind]}, "
            f"found {counts.get((scope, kind), 0)}"
            for scope, kind in {**expected, **counts}
            if expected.get((scope, kind)) != counts.get((scope, kind))
        ]
        if lines:
            headline = f"{self.file}: the layers do not match mappings/{mapping.file}"
            raise MappingError("\n  ".join([headline, *names.shorten(lines)]))


def _is_whole(layers: Collection[int]) -> bool:
    """Return whether the layers are numbered 0, 1, … without gaps, or belong to one layer."""
    return len(layers) == 1 or sorted(layers) == list(range(len(layers)))


def read(tensor_names: Iterable[str], file: str) -> NamingStyle:
    """Detect the naming style of a file.

    Raises:
        DialectError: with every name in none of Gluon's styles, or if the file holds two networks.
    """
    file_names = list(tensor_names)
    names_by_plain = plain(file_names)
    if len(names_by_plain) != len(file_names):
        raise DialectError(f"{file}: the same name occurs with arg: and with aux:")
    if any("." in name for name in names_by_plain):
        structural = {MOVING.sub("running_", name): file_name for name, file_name in names_by_plain.items()}
        if len(structural) != len(names_by_plain):
            raise DialectError(f"{file}: the same name occurs with running_ and with moving_")
        return NamingStyle(file, dialect(file_names), structural=structural)
    return read_index_based(names_by_plain, file)


def index_based_groups(tensor_names: Iterable[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Group the index-based names of a file by what precedes them: a child's name, and the prefix.

    Returns:
        {(child, prefix): {name after the child's: whole name}}; other names are in no group.
    """
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name in tensor_names:
        child, _, inner = name.rpartition(".")
        if len(inner) <= MAX_NAME_CHARACTERS and (match := COUNTED.fullmatch(inner)):
            groups.setdefault((child, match["prefix"]), {})[inner] = name
    return groups


def dense_layers(tensor_names: Iterable[str]) -> list[tuple[int, str]]:
    """Return the number and name of each dense layer among index-based names, in their order."""
    matches = filter(None, map(COUNTED.fullmatch, tensor_names))
    layers = {match[0].removesuffix(f"_{match['role']}"): match for match in matches if match["dense"]}
    return [(int(match["number"]), layer) for layer, match in layers.items()]


def parameters(variables: Iterable[str]) -> list[str]:
    """Return the variables of a graph that are named like parameters, without the data and labels."""
    every_name = list(variables)
    return [name for name in every_name if "." in name] or [
        name for name in every_name if len(name) <= MAX_NAME_CHARACTERS and COUNTED.fullmatch(name)
    ]


def plain(tensor_names: Iterable[str]) -> dict[str, str]:
    """Return {name without an export's ``arg:`` or ``aux:``: name in the file}."""
    file_names = list(tensor_names)
    exported = _is_exported(file_names)
    return {MARKS.sub("", name, count=1) if exported else name: name for name in file_names}


def dialect(tensor_names: Iterable[str], prefix: str = "") -> str:
    """Return the style of names that may be those of several networks.

    Args:
        tensor_names: the names.
        prefix: the prefix of index-based names.
    """
    file_names = list(tensor_names)
    exported, structural = _is_exported(file_names), any("." in name for name in file_names)
    if structural:
        return EXPORT_STRUCTURAL if exported else STRUCTURAL
    return EXPORT if exported else PREFIX if prefix else STRIPPED


def _is_exported(tensor_names: list[str]) -> bool:
    return bool(tensor_names) and all(MARKS.match(name) for name in tensor_names)


def read_index_based(plain: dict[str, str], file: str) -> NamingStyle:
    """Read index-based names.

    Args:
        plain: {index-based name: name in the file}.
        file: the file, for messages.

    Raises:
        DialectError: if a name is not index-based, or if the names are those of two networks.
    """
    matches = {
        name: match
        for name in plain
        if len(name) <= MAX_NAME_CHARACTERS and (match := COUNTED.fullmatch(name))
    }
    if len(matches) < len(plain):
        unknown = [name for name in plain if name not in matches]
        raise DialectError(
            "\n  ".join(
                [
                    f"{file}: these names follow no supported naming style",
                    *names.shorten(unknown),
                    SUPPORTED,
                ]
            )
        )
    prefixes: dict[str, str] = {}
    heads: dict[str, str] = {}
    counted: dict[Counter, dict[int, Roles]] = {}
    for name, match in matches.items():
        kind = next(kind for kind in PLURALS if match[kind])
        is_replacement = not match["prefix"] and not match["scope"]  # made outside the network's name scope
        if kind == HEAD:
            heads.setdefault(match["prefix"], name)
        elif not is_replacement:
            prefixes.setdefault(match["prefix"], name)
        layer = counted.setdefault((match["scope"] or "", kind), {}).setdefault(int(match["number"]), {})
        role = match["role"].replace("moving_", "running_")
        if role in layer:
            raise _two_networks(file, (layer[role], plain[name]))
        layer[role] = plain[name]
    for examples in (prefixes, heads):
        if len(examples) > 1:
            raise _two_networks(file, examples.values())
    prefix = next(iter(prefixes), "")
    own_dialect = dialect(plain.values(), prefix)
    return NamingStyle(file, own_dialect, prefix, tuple(plain.values()), counted=counted)


def _two_networks(file: str, examples: Iterable[str]) -> DialectError:
    return DialectError(
        "\n  ".join([f"{file}: contains more than one network", *names.shorten(list(examples))])
    )
