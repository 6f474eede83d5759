"""Expand ``mappings/*.toml`` to an exact one-to-one mapping from Gluon's names to PyTorch's.

The tables list layers; they are expanded to tensors before any lookup.
"""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converter import names
from converter.errors import MappingError
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item")

STEM, HEAD = "stem", "head"
SHORTCUT = "shortcut"
MAX_BYTES = 1 << 16  # ten times the longest of ours
MAX_DOTS = 100  # in a line; tomllib needs memory and time quadratic in the parts of a key
MAX_TENSORS = 100_000  # and layers, of a network; the largest has 987 tensors


Lines = dict[str, tuple[str, str]]  # {Gluon's name: (PyTorch's name, kind of layer)}


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parts of a network, in its order.

    Attributes:
        before: the parts before the stages.
        stages: (Gluon's name, PyTorch's name, the shortcut part of the first block or "") of each stage.
        block: the parts of a block; "shortcut" is the place of the first block's shortcut part.
        after: the parts after the stages.
    """

    before: tuple[str, ...]
    stages: tuple[tuple[str, str, str], ...]
    block: tuple[str, ...]
    after: tuple[str, ...]


class PrefixNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gluon's prefix naming, such as ``resnext0_stage1_conv0_weight``.

    Attributes:
        block: the scope of a stage's layers.
        shortcut: the scope of its shortcut's layers.
        kinds: the name under which each kind of layer is counted.
    """

    block: str
    shortcut: str
    kinds: dict[str, str]


class FamilyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a mapping file.

    Attributes:
        kinds: for each kind of layer, {Gluon's role: PyTorch's role} of its arrays.
        target_only: for each kind, the roles that exist in PyTorch only.
        prefix_names: Gluon's prefix naming.
        parts: the layers of each part.
        layouts: the networks that are made of these parts.
        models: the models, parsed by the catalog.
    """

    kinds: dict[str, dict[str, str]]
    target_only: dict[str, tuple[str, ...]]
    prefix_names: PrefixNames
    parts: dict[str, Lines]
    layouts: dict[str, Layout]
    models: dict[str, object]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with its names on both sides. Layers are listed in the order in which Gluon numbers them.

    Attributes:
        source: Gluon's name.
        target: PyTorch's name.
        kind: the kind of layer.
        part: the stem, PyTorch's name of the stage, or the head.
        counter: the scope ("" outside the stages) and kind by which Gluon's prefix names number it; None
            for a layer without arrays.
        on_shortcut: whether the layer is on a shortcut.
    """

    source: str
    target: str
    kind: str
    part: str
    counter: tuple[str, str] | None = None
    on_shortcut: bool = False


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of a layer, with its role on both sides: Gluon's ``gamma`` is PyTorch's ``weight``."""

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
    """A one-to-one mapping of one network's names, in the network's order.

    Attributes:
        layers: the layers, those without arrays included.
        tensors: the arrays that exist on both sides.
        target_only: PyTorch's names of the arrays that Gluon does not have.
        file: the name of the mapping file.
        sha256: the SHA-256 of the mapping file.
    """

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

    def without(self, target: str) -> Mapping:
        """Return the mapping without a layer, by PyTorch's name."""
        return replace(
            self,
            layers=tuple(layer for layer in self.layers if layer.target != target),
            tensors=tuple(tensor for tensor in self.tensors if tensor.layer.target != target),
        )


def folder() -> Path:
    """Return the folder of the mapping files: in an installed package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "mappings"
    return packaged if packaged.is_dir() else package.parent / "mappings"


def read(path: Path, layout: str, depths: tuple[int, ...]) -> Mapping:
    """Read a mapping file and expand one of its layouts.

    Args:
        path: the mapping file.
        layout: the name of the layout.
        depths: the number of blocks of each stage.

    Raises:
        MappingError: if the file is invalid, with the dotted place, or if names are mapped twice.
    """
    document, content = load(path)
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
    require_one_to_one("Gluon", (layer.source for layer in layers), path.name)
    require_one_to_one("PyTorch", (layer.target for layer in layers), path.name)
    require_one_to_one("Gluon", (tensor.source for tensor in tensors), path.name)
    require_one_to_one("PyTorch", (*(tensor.target for tensor in tensors), *target_only), path.name)
    return Mapping(layers, tensors, target_only, path.name, hashlib.sha256(content).hexdigest())


def load(path: Path, limit: int = MAX_BYTES) -> tuple[dict[str, Any], bytes]:
    """Return the content of a TOML file of at most ``limit`` bytes, parsed and as bytes.

    Raises:
        StorageError: if the file cannot be read.
        MappingError: if it is not valid TOML.
    """
    content = disk.read_small(path, limit)
    try:
        if max(line.count(b".") for line in content.split(b"\n")) > MAX_DOTS:
            raise ValueError(f"more than {MAX_DOTS} dots in a line")  # noqa: TRY301 - as invalid TOML
        return tomllib.loads(content.decode()), content
    except (
        ValueError,
        RecursionError,
    ) as cause:  # ValueError: invalid TOML or UTF-8, or a number with too many digits
        raise MappingError(f"{path.name}: {cause}") from cause


def _bounded(expanded: Iterable[Item], file: str) -> tuple[Item, ...]:
    """Return an expansion as a tuple, with a limit: a short table can expand to a huge network."""
    items = tuple(itertools.islice(expanded, MAX_TENSORS + 1))
    if len(items) > MAX_TENSORS:
        raise MappingError(f"{file}: expands to more than {MAX_TENSORS} layers or tensors")
    return items


def _layers(table: FamilyTable, name: str, depths: tuple[int, ...], file: str) -> Iterator[Layer]:
    layout = _lookup("layout", name, table.layouts, file)
    if len(layout.stages) != len(depths):
        raise MappingError(
            f"{file}: layouts.{name}.stages: expected {len(depths)}, found {len(layout.stages)}"
        )
    stages = enumerate(zip(layout.stages, depths, strict=True), start=1)
    rows = itertools.chain(
        (("", "", STEM, "", part, False) for part in layout.before),
        *(
            _parts(layout.block, stage, depth, number, table.prefix_names)
            for number, (stage, depth) in stages
        ),
        (("", "", HEAD, "", part, False) for part in layout.after),
    )
    for source_block, target_block, section, scope, part, on_shortcut in rows:
        for source, (target, kind) in _lookup("part", part, table.parts, file).items():
            roles = _lookup("kind", kind, table.kinds, f"{file}: {source}")
            alias = _lookup("kind", kind, table.prefix_names.kinds, f"{file}: prefix_names") if roles else ""
            counter = (scope, alias) if roles else None
            yield Layer(
                _join(source_block, source), _join(target_block, target), kind, section, counter, on_shortcut
            )


def _parts(
    block: tuple[str, ...], stage: tuple[str, str, str], depth: int, number: int, prefixes: PrefixNames
) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Yield Gluon's and PyTorch's block, stage, scope, part, and whether it is the shortcut."""
    source, target, shortcut = stage
    scopes = {SHORTCUT: prefixes.shortcut}
    for index in range(depth):
        first = {SHORTCUT: shortcut if index == 0 else ""}
        for part in block:
            if name := first.get(part, part):
                scope = f"{scopes.get(part, prefixes.block)}{number}"
                yield f"{source}.{index}", f"{target}.{index}", target, scope, name, part == SHORTCUT


def _lookup(what: str, name: str, entries: dict[str, Item], place: str) -> Item:
    if name not in entries:
        raise MappingError(f"{place}: unknown {what} {name!r}; expected one of {', '.join(entries)}")
    return entries[name]


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def require_one_to_one(side: str, mapped: Iterable[str], file: str) -> None:
    """Check that no name is mapped twice.

    Raises:
        MappingError: with the names that are.
    """
    duplicates = [name for name, count in Counter(mapped).items() if count > 1]
    if duplicates:
        raise MappingError(
            f"{file}: {side} names that are mapped twice: {', '.join(names.collapse(duplicates))}"
        )
