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


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file as it is written: which layer of Gluon's is which of PyTorch's, and of what kind."""

    stages: tuple[tuple[str, str], ...]
    kinds: dict[str, dict[str, str]]
    target_only: dict[str, tuple[str, ...]]
    before_stages: dict[str, tuple[str, str]]
    every_block: dict[str, tuple[str, str]]
    first_block: dict[str, tuple[str, str]]
    after_stages: dict[str, tuple[str, str]]
    models: dict[str, object]  # the catalog's part


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer under both names."""

    source: str
    target: str
    kind: str


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
    _require_one_to_one("Gluon", (tensor.source for tensor in tensors), path.name)
    _require_one_to_one("PyTorch", (*(tensor.target for tensor in tensors), *target_only), path.name)
    return Mapping(layers, tensors, target_only, path.name, hashlib.sha256(content).hexdigest())


def _layers(table: Table, depths: tuple[int, ...], file: str) -> Iterator[Layer]:
    if len(table.stages) != len(depths):
        raise MappingError(f"{file}: stages: {len(depths)} expected, {len(table.stages)} found")
    rows = [("", "", table.before_stages)]
    for (source, target), depth in zip(table.stages, depths, strict=True):
        for block in range(depth):
            prefix = (f"{source}.{block}.", f"{target}.{block}.")
            rows.append((*prefix, table.every_block))
            if block == 0:
                rows.append((*prefix, table.first_block))
    rows.append(("", "", table.after_stages))
    for source_prefix, target_prefix, lines in rows:
        for source, (target, kind) in lines.items():
            if kind not in table.kinds:
                known = ", ".join(table.kinds)
                raise MappingError(f"{file}: {source}: no kind {kind!r}; there are {known}")
            yield Layer(source_prefix + source, target_prefix + target, kind)


def _require_one_to_one(side: str, tensor_names: Iterable[str], file: str) -> None:
    twice = [name for name, count in Counter(tensor_names).items() if count > 1]
    if twice:
        raise MappingError(f"{file}: mapped twice on {side}'s side: {', '.join(names.collapse(twice))}")
