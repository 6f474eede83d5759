"""The models that can be converted, read from ``mappings/*.toml``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from converter import names
from converter.errors import CatalogError
from converter.networks import mapping
from converter.sources.published_file import PublishedFile
from resnext_torch import CONFIGS, Config, parameter_count, state_spec

if TYPE_CHECKING:
    from converter.networks.mapping import Mapping
    from resnext_torch.config import Shape


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as its mapping file lists it, with what GluonCV published of it: accuracies in percent.

    ``prefix`` is the one that GluonCV fixes for its prefix names, "" where it counts instances.
    """

    gluon: str
    layout: str
    prefix: str = ""
    params_sha1: str = ""
    top1: float | None = None
    top5: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A network that exists on both sides."""

    name: str
    entry: Entry
    mapping_file: Path
    config: Config

    @property
    def mapping(self) -> Mapping:
        """Which layer and array of Gluon's is which of PyTorch's."""
        return _mapping(self.mapping_file, self.entry.layout, self.config.depths)

    @property
    def shapes(self) -> dict[str, Shape]:
        """What PyTorch's state dict holds, in its order."""
        return {spec.name: spec.shape for spec in state_spec(self.config)}

    @property
    def source_shapes(self) -> dict[str, Shape]:
        """The shapes of Gluon's parameters, by structural names."""
        shapes = self.shapes
        return {tensor.source: shapes[tensor.target] for tensor in self.mapping.tensors}

    @property
    def parameters(self) -> int:
        """How many trainable scalars the network has."""
        return parameter_count(self.config)

    @property
    def official_file(self) -> str:
        """The file name under which GluonCV publishes and caches the parameters."""
        return f"{self.entry.gluon}-{self.entry.params_sha1[:8] or 'unpublished'}.params"

    @property
    def published(self) -> PublishedFile:
        """The file that GluonCV published."""
        return PublishedFile(model=self.name, name=self.official_file, sha1=self.entry.params_sha1)

    def __str__(self) -> str:
        config = self.config
        blocks = "-".join(map(str, config.depths))
        return (
            f"{self.name}: blocks {blocks}, cardinality {config.cardinality}, width {config.width}, "
            f"{config.num_classes} classes"
        )

    def with_classes(self, count: int) -> Model:
        """Return the same network with another number of classes."""
        return replace(self, config=replace(self.config, num_classes=count))


def models() -> dict[str, Model]:
    """Return every model by its name, in the order of the mapping files."""
    return {model.name: model for path in sorted(_folder().glob("*.toml")) for model in _read(path)}


def find(name: str) -> Model:
    """Return the model of that name, which may also be the one it has in GluonCV.

    Errors: ``CatalogError`` with the nearest name, or with all of them.
    """
    known = models()
    by_gluon = {model.entry.gluon: model for model in known.values()}
    found = known.get(name) or by_gluon.get(name)
    if found is None:
        near = names.nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
        raise CatalogError(f"no model {name!r}; {hint}")
    return found


@cache
def _mapping(path: Path, layout: str, depths: tuple[int, ...]) -> Mapping:
    return mapping.read(path, layout, depths)


@cache
def _read(path: Path) -> tuple[Model, ...]:
    try:
        entries = msgspec.convert(mapping.load(path, CatalogError)[0]["models"], dict[str, Entry])
    except (msgspec.ValidationError, KeyError) as error:
        raise CatalogError(f"{path.name}: models: {error}") from error
    if unknown := entries.keys() - CONFIGS.keys():
        raise CatalogError(f"{path.name}: models: resnext_torch has no {', '.join(sorted(unknown))}")
    return tuple(Model(name, entry, path, CONFIGS[name]) for name, entry in entries.items())


def _folder() -> Path:
    """Return where the tables lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "mappings"
    return packaged if packaged.is_dir() else package.parent / "mappings"
