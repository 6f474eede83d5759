"""``mappings/*.toml`` → an exact one-to-one dictionary from Gluon's names to PyTorch's.

A table names layers. It is expanded to tensors before anything is looked up.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from converter import names
from converter.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

STEM, HEAD = "stem", "head"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file as it is written: which layer of Gluon's is which of PyTorch's, and of what kind."""

    stages: tuple[tuple[str, str], ...]
    kinds: dict[str, dict[str, str]]
    target_only: dict[str, tuple[str, ...]]
    before_stages: dict[str, tuple[str, str]]
    every_block: dict[str, tuple[str, str]]
    first_block: dict[str, tuple[str, str]]
    whole_block: dict[str, tuple[str, str]]
    after_stages: dict[str, tuple[str, str]]
    models: dict[str, object]  # the catalog's part


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer under both names. ``part`` is the stem, the stage, by PyTorch's name, or the head."""

    source: str
    target: str
    kind: str
    part: str


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


def read(path: Path, depths: tuple[int, ...]) -> Mapping:
    """Read a mapping file and expand it for a network with ``depths`` blocks in its stages.

    Errors: ``MappingError`` with the dotted place, or with every name that is mapped twice.
    """
    content = path.read_bytes()
    try:
        table = msgspec.convert(tomllib.loads(content.decode()), Table)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path.name}: {error}") from error
    layers = tuple(_layers(table, depths, path.name))
    tensors = tuple(
        Tensor(layer, source, target)
        for layer in layers
        for source, target in table.kinds[layer.kind].items()
    )
    target_only = tuple(
        f"{layer.target}.{role}" for layer in layers for role in table.target_only.get(layer.kind, ())
    )
    _require_one_to_one("Gluon", (layer.source for layer in layers), path.name)
    _require_one_to_one("PyTorch", (layer.target for layer in layers), path.name)
    _require_one_to_one("Gluon", (tensor.source for tensor in tensors), path.name)
    _require_one_to_one("PyTorch", (*(tensor.target for tensor in tensors), *target_only), path.name)
    return Mapping(layers, tensors, target_only, path.name, hashlib.sha256(content).hexdigest())


def _layers(table: Table, depths: tuple[int, ...], file: str) -> Iterator[Layer]:
    if len(table.stages) != len(depths):
        raise MappingError(f"{file}: stages: {len(depths)} expected, {len(table.stages)} found")
    rows = [("", "", STEM, table.before_stages)]
    for (source, target), depth in zip(table.stages, depths, strict=True):
        for block in range(depth):
            place = (f"{source}.{block}", f"{target}.{block}", target)
            rows.append((*place, table.every_block))
            if block == 0:
                rows.append((*place, table.first_block))
            rows.append((*place, table.whole_block))
    rows.append(("", "", HEAD, table.after_stages))
    for source_place, target_place, part, lines in rows:
        for source, (target, kind) in lines.items():
            if kind not in table.kinds:
                known = ", ".join(table.kinds)
                raise MappingError(f"{file}: {source}: no kind {kind!r}; there are {known}")
            yield Layer(_join(source_place, source), _join(target_place, target), kind, part)


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _require_one_to_one(side: str, mapped: Iterable[str], file: str) -> None:
    twice = [name for name, count in Counter(mapped).items() if count > 1]
    if twice:
        raise MappingError(f"{file}: mapped twice on {side}'s side: {', '.join(names.collapse(twice))}")
