"""``mappings/*.toml`` → an exact one-to-one dictionary from Gluon's names to PyTorch's.

A table names layers. It is expanded to tensors before anything is looked up.
"""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converter import names
from converter.errors import ConversionError, MappingError
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
Known = TypeVar("Known")

STEM, HEAD = "stem", "head"
SHORTCUT = "shortcut"
MAX_BYTES = 1 << 16  # ten times our longest
MAX_DOTS = 100  # in a line; a key of many parts takes tomllib memory and time by their square
MAX_TENSORS = 100_000  # of a network, and as many layers; the largest here has 987


Lines = dict[str, tuple[str, str]]  # Gluon's name: PyTorch's, and the kind


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which parts make a network, in its order.

    A stage is (Gluon's name, PyTorch's, the part that is the shortcut of its first block or ""); among the
    parts of a block, "shortcut" stands where that one comes.
    """

    before: tuple[str, ...]
    stages: tuple[tuple[str, str, str], ...]
    block: tuple[str, ...]
    after: tuple[str, ...]


class PrefixNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How Gluon names parameters by prefixes, as in ``resnext0_stage1_conv0_weight``.

    ``block`` and ``shortcut`` are the scopes of a stage's layers, ``kinds`` what each kind is counted as.
    """

    block: str
    shortcut: str
    kinds: dict[str, str]


class FamilyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file as it is written: which layer of Gluon's is which of PyTorch's, and of what kind."""

    kinds: dict[str, dict[str, str]]
    target_only: dict[str, tuple[str, ...]]
    prefix_names: PrefixNames
    parts: dict[str, Lines]
    layouts: dict[str, Layout]
    models: dict[str, object]  # the catalog's part


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer under both names. ``part`` is the stem, the stage, by PyTorch's name, or the head.

    ``counter`` is where Gluon's prefix names count it: the scope, "" outside the stages, and as what; None
    without arrays. Layers come in the order in which Gluon counts them.
    """

    source: str
    target: str
    kind: str
    part: str
    counter: tuple[str, str] | None = None
    on_shortcut: bool = False


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array of a layer, by its role: a ``gamma`` in Gluon is a ``weight`` in PyTorch."""

    layer: Layer
    source_role: str
    target_role: str

    @property
    def source(self) -> str:
        """Gluon's name."""
        return f"{self.layer.source}.{self.source_role}"

    @property
    def target(self) -> str:
        """PyTorch's name."""
        return f"{self.layer.target}.{self.target_role}"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A table expanded for one network, in the network's order; one-to-one."""

    layers: tuple[Layer, ...]
    tensors: tuple[Tensor, ...]
    target_only: tuple[str, ...]
    file: str
    sha256: str

    def to_target(self) -> dict[str, str]:
        """Return {Gluon's name: PyTorch's}."""
        return {tensor.source: tensor.target for tensor in self.tensors}

    def to_source(self) -> dict[str, str]:
        """Return {PyTorch's name: Gluon's}."""
        return {tensor.target: tensor.source for tensor in self.tensors}


def read(path: Path, layout: str, depths: tuple[int, ...]) -> Mapping:
    """Read a mapping file and expand one of its layouts for a network with ``depths`` blocks in its stages.

    Errors: ``MappingError`` with the dotted place, or with every name that is mapped twice.
    """
    document, content = load(path, MappingError)
    try:
        table = msgspec.convert(document, FamilyTable)
    except msgspec.ValidationError as error:
        raise MappingError(f"{path.name}: {error}") from error
    layers = _bounded(_layers(table, layout, depths, path.name), path.name)
    tensors = _bounded(
        (
            Tensor(layer, source, target)
            for layer in layers
            for source, target in table.kinds[layer.kind].items()
        ),
        path.name,
    )
    target_only = _bounded(
        (f"{layer.target}.{role}" for layer in layers for role in table.target_only.get(layer.kind, ())),
        path.name,
    )
    _require_one_to_one("Gluon", (layer.source for layer in layers), path.name)
    _require_one_to_one("PyTorch", (layer.target for layer in layers), path.name)
    _require_one_to_one("Gluon", (tensor.source for tensor in tensors), path.name)
    _require_one_to_one("PyTorch", (*(tensor.target for tensor in tensors), *target_only), path.name)
    return Mapping(layers, tensors, target_only, path.name, hashlib.sha256(content).hexdigest())


def load(path: Path, error: type[ConversionError]) -> tuple[dict[str, Any], bytes]:
    """Return what stands in a TOML file of at most ``MAX_BYTES``, and the bytes of it.

    Errors: ``error``.
    """
    content = disk.read_small(path, MAX_BYTES, error)
    try:
        if max(line.count(b".") for line in content.split(b"\n")) > MAX_DOTS:
            raise ValueError(f"more than {MAX_DOTS} dots in a line")  # noqa: TRY301 - said as all that is no TOML
        return tomllib.loads(content.decode()), content
    except (
        ValueError,
        RecursionError,
    ) as cause:  # the first is no TOML's, no UTF-8's and too long a number's
        raise error(f"{path.name}: {cause}") from cause


def _bounded(expanded: Iterable[Known], file: str) -> tuple[Known, ...]:
    """Take all that a table expands to; little text may stand for very much."""
    taken = tuple(itertools.islice(expanded, MAX_TENSORS + 1))
    if len(taken) > MAX_TENSORS:
        raise MappingError(f"{file}: expands to more than {MAX_TENSORS} layers or tensors")
    return taken


def _layers(table: FamilyTable, name: str, depths: tuple[int, ...], file: str) -> Iterator[Layer]:
    layout = _named("layout", name, table.layouts, file)
    if len(layout.stages) != len(depths):
        raise MappingError(
            f"{file}: layouts.{name}.stages: {len(depths)} expected, {len(layout.stages)} found"
        )
    stages = enumerate(zip(layout.stages, depths, strict=True), start=1)
    rows = itertools.chain(
        (("", "", STEM, "", part, False) for part in layout.before),
        *(_rows(layout.block, stage, depth, number, table.prefix_names) for number, (stage, depth) in stages),
        (("", "", HEAD, "", part, False) for part in layout.after),
    )
    for source_place, target_place, where, scope, part, on_shortcut in rows:
        for source, (target, kind) in _named("part", part, table.parts, file).items():
            roles = _named("kind", kind, table.kinds, f"{file}: {source}")
            counted = _named("kind", kind, table.prefix_names.kinds, f"{file}: prefix_names") if roles else ""
            counter = (scope, counted) if roles else None
            yield Layer(
                _join(source_place, source), _join(target_place, target), kind, where, counter, on_shortcut
            )


def _rows(
    block: tuple[str, ...], stage: tuple[str, str, str], depth: int, number: int, prefixes: PrefixNames
) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Return a stage's parts: places on both sides, stage, scope, name, whether it is the shortcut."""
    source, target, shortcut = stage
    scopes = {SHORTCUT: prefixes.shortcut}
    for index in range(depth):
        first = {SHORTCUT: shortcut if index == 0 else ""}
        for part in block:
            if name := first.get(part, part):
                scope = f"{scopes.get(part, prefixes.block)}{number}"
                yield f"{source}.{index}", f"{target}.{index}", target, scope, name, part == SHORTCUT


def _named(what: str, name: str, known: dict[str, Known], place: str) -> Known:
    if name not in known:
        raise MappingError(f"{place}: no {what} {name!r}; there are {', '.join(known)}")
    return known[name]


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _require_one_to_one(side: str, mapped: Iterable[str], file: str) -> None:
    twice = [name for name, count in Counter(mapped).items() if count > 1]
    if twice:
        raise MappingError(f"{file}: mapped twice on {side}'s side: {', '.join(names.collapse(twice))}")
