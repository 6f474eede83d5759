"""Gluon's naming styles of the same parameters, and what each name is called in the structural one.

| dialect          | made by                                          | as                                 |
|------------------|--------------------------------------------------|------------------------------------|
| structural       | ``net.save_parameters``                          | ``features.4.0.body.1.gamma``      |
| prefix           | ``net.collect_params().save``                    | ``resnext0_stage1_batchnorm0_gamma`` |
| stripped prefix  | ``net.save_params``, or a net with ``prefix=''`` | ``stage1_batchnorm0_gamma``        |
| export           | ``net.export``                                   | ``arg:resnext0_conv0_weight``      |
| export, structural | the same in MXNet 2                            | ``arg:features.0.weight``          |

Prefix names count the layers of a kind within a scope as they are made, so that their order is that of the
layers; but one that was replaced counts on.
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
    r"(?P<role>weight|bias|gamma|beta|running_mean|running_var)"
)
READ = (
    "Read are features.0.weight (net.save_parameters), resnext0_conv0_weight (net.collect_params().save) "
    "and arg:resnext0_conv0_weight (net.export)."
)
MAX_LINES = 100  # of an error
MAX_NAME_CHARACTERS = 200  # a network inside many others may reach half of it
HEAD = "dense"  # a replaced one may have another prefix than the rest
PLURALS = {"conv": "convolutions", "batchnorm": "BatchNorms", "dense": "dense layers"}

Counter = tuple[str, str]  # the scope, and the kind of layer that is counted in it
Roles = dict[str, str]  # a layer's arrays: {role: the file's name}


@dataclass(frozen=True, slots=True)
class NamingStyle:
    """The names of a file, understood.

    ``prefix`` is what stands before all prefix names, "resnext0_". ``structural`` are the file's names by
    structural ones where it has these, ``counted`` its layers by their numbers where it has the
    others; these and ``names`` are in the file's order.
    """

    file: str
    dialect: str
    prefix: str = ""
    names: tuple[str, ...] = ()
    structural: dict[str, str] = field(default_factory=dict)
    counted: dict[Counter, dict[int, Roles]] = field(default_factory=dict)

    def resolve(self, mapping: Mapping) -> dict[str, str]:
        """Return {structural name: the file's}, laid beside the layers of a mapping where names are counted.

        Errors: ``MappingError`` where the file has more or fewer layers of a kind in some scope, or where
        their numbers do not tell their order and the file's does not either.
        """
        if self.structural:
            return self.structural
        expected: dict[Counter, list[str]] = {}
        for layer in mapping.layers:
            if layer.counter:
                expected.setdefault(layer.counter, []).append(layer.source)
        self._require_counts({counter: len(layers) for counter, layers in expected.items()}, mapping)
        found = {
            f"{layer}.{role}": name
            for counter, layers in expected.items()
            for layer, roles in zip(layers, self._in_order(counter), strict=True)
            for role, name in roles.items()
        }
        self._require_certain(found, mapping)
        return found

    def overlap(self, mapping: Mapping) -> float:
        """Return the share of the parameters named here or in a mapping that both name; 1.0 if all are."""
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
        """Return {name: the file's}: as GluonCV names a network made anew, but for its own prefix.

        Empty where names are structural. Numbers that are a new network's own stay what they are.
        """
        return {
            f"{scope}{'_' if scope else ''}{kind}{place}_{role}": name
            for scope, kind in self.counted
            for place, roles in enumerate(self._in_order((scope, kind)))
            for role, name in roles.items()
        }

    def _in_order(self, counter: Counter) -> list[Roles]:
        """Return the layers of a kind in a scope in the order in which they stand in the network.

        Numbers from 0 on without a gap are those of a network as it was made, in order. A layer that took
        another's place counts on: then the numbers do not tell, and the order is the file's.
        """
        layers = self.counted[counter]
        return [layers[number] for number in (sorted(layers) if _is_whole(layers) else layers)]

    def _require_certain(self, found: dict[str, str], mapping: Mapping) -> None:
        """Refuse numbers with gaps in a file that is not in the network's order, as Gluon's are."""
        doubtful = [counter for counter, layers in self.counted.items() if not _is_whole(layers)]
        in_order = [found[tensor.source] for tensor in mapping.tensors if tensor.source in found]
        if doubtful and in_order != list(self.names):
            lines = [
                f"{scope or 'outside the stages'}: {PLURALS[kind]} {list(self.counted[scope, kind])}"
                for scope, kind in doubtful
            ]
            headline = (
                f"{self.file}: numbers with gaps, as where a layer was replaced, and not in the network's "
                "order: which is which cannot be told; names that net.save_parameters writes tell"
            )
            raise MappingError("\n  ".join([headline, *names.shorten(lines)]))

    def _require_counts(self, expected: dict[Counter, int], mapping: Mapping) -> None:
        found = {counter: len(layers) for counter, layers in self.counted.items()}
        lines = [
            f"{scope or 'outside the stages'}: {expected.get((scope, kind), 0)} {PLURALS[kind]} expected, "
            f"{found.get((scope, kind), 0)} found"
            for scope, kind in {**expected, **found}
            if expected.get((scope, kind)) != found.get((scope, kind))
        ]
        if lines:
            headline = f"{self.file}: the layers do not match mappings/{mapping.file}"
            raise MappingError("\n  ".join([headline, *names.shorten(lines, MAX_LINES)]))


def _is_whole(layers: Collection[int]) -> bool:
    """Return whether the numbers of some layers are 0, 1, …; of a single layer none is in doubt."""
    return len(layers) == 1 or sorted(layers) == list(range(len(layers)))


def read(tensor_names: Iterable[str], file: str) -> NamingStyle:
    """Understand a file's names, in whatever style they are.

    Errors: ``DialectError`` with every name that is in none, or where two networks lie in one file.
    """
    found = list(tensor_names)
    names_by_plain = plain(found)
    if len(names_by_plain) != len(found):
        raise DialectError(f"{file}: the same name stands under arg: and under aux:")
    exported = _is_exported(found)
    if any("." in name for name in names_by_plain):
        return NamingStyle(file, EXPORT_STRUCTURAL if exported else STRUCTURAL, structural=names_by_plain)
    return _count(names_by_plain, file, exported=exported)


def parameters(variables: Iterable[str]) -> list[str]:
    """Return the variables of a graph that are named like parameters: not the data, and no label."""
    known = list(variables)
    return [name for name in known if "." in name] or [name for name in known if COUNTED.fullmatch(name)]


def plain(tensor_names: Iterable[str]) -> dict[str, str]:
    """Return a file's names by what remains without the ``arg:`` and ``aux:`` of an export."""
    found = list(tensor_names)
    exported = _is_exported(found)
    return {MARKS.sub("", name, count=1) if exported else name: name for name in found}


def _is_exported(tensor_names: list[str]) -> bool:
    return bool(tensor_names) and all(MARKS.match(name) for name in tensor_names)


def _count(plain: dict[str, str], file: str, *, exported: bool) -> NamingStyle:
    matches = {
        name: match
        for name in plain
        if len(name) <= MAX_NAME_CHARACTERS and (match := COUNTED.fullmatch(name))
    }
    if len(matches) < len(plain):
        strangers = [name for name in plain if name not in matches]
        raise DialectError(
            "\n  ".join(
                [
                    f"{file}: names in none of Gluon's styles",
                    *names.shorten(strangers),
                    READ,
                ]
            )
        )
    prefixes: dict[str, str] = {}
    heads: dict[str, str] = {}
    counted: dict[Counter, dict[int, Roles]] = {}
    for name, match in matches.items():
        kind = next(kind for kind in PLURALS if match[kind])
        (heads if kind == HEAD else prefixes).setdefault(match["prefix"], name)
        layer = counted.setdefault((match["scope"] or "", kind), {}).setdefault(int(match["number"]), {})
        if match["role"] in layer:
            raise _two_networks(file, (layer[match["role"]], plain[name]))
        layer[match["role"]] = plain[name]
    for found in (prefixes, heads):
        if len(found) > 1:
            raise _two_networks(file, found.values())
    prefix = next(iter(prefixes), "")
    dialect = EXPORT if exported else PREFIX if prefix else STRIPPED
    return NamingStyle(file, dialect, prefix, tuple(plain.values()), counted=counted)


def _two_networks(file: str, examples: Iterable[str]) -> DialectError:
    return DialectError(
        "\n  ".join([f"{file}: more than one network in one file", *names.shorten(list(examples))])
    )
