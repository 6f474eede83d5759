"""The catalog of convertible models, read from ``mappings/*.toml``."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, TypedDict, Unpack

import msgspec

from converter.errors import CatalogError, UsageError
from converter.networks import gluoncv_models, mapping, unknown_names
from converter.sources.published_file import PublishedFile
from resnext_torch import CONFIGS, HEAD, Config, parameter_count, state_spec
from resnext_torch.config import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.networks.mapping import Mapping
    from resnext_torch.config import Shape


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's entry in its mapping file.

    Attributes:
        gluon: the model's name in GluonCV.
        layout: the layout of the mapping file that describes the model.
        prefix: the prefix that GluonCV fixes for its prefix names, "" if GluonCV numbers its instances.
        params_sha1: the SHA-1 of the published parameters, "" if GluonCV published none.
        top1: the published top-1 accuracy in percent.
        top5: the published top-5 accuracy in percent.
        note: a remark about the model.
    """

    gluon: str
    layout: str
    prefix: str = ""
    params_sha1: str = ""
    top1: float | None = None
    top5: float | None = None
    note: str = ""


class ConfigChanges(TypedDict, total=False):
    """The hyper-parameters that a model's file or user may change; as in ``resnext_torch.Config``."""

    in_chans: int
    num_classes: int
    output_stride: int


@dataclass(frozen=True, slots=True)
class Model:
    """A network that exists in both GluonCV and PyTorch."""

    name: str
    entry: Entry
    mapping_file: Path
    config: Config

    @property
    def mapping(self) -> Mapping:
        """The one-to-one mapping between Gluon's and PyTorch's names, without the head if there is none."""
        has_head = self.config.num_classes > 0
        return _mapping(self.mapping_file, self.entry.layout, self.config.depths, has_head=has_head)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of PyTorch's state dict, by name, in its order."""
        return {spec.name: spec.shape for spec in state_spec(self.config)}

    @property
    def source_shapes(self) -> dict[str, Shape]:
        """The shapes of Gluon's parameters, by structural name."""
        shapes = self.shapes
        return {tensor.source: shapes[tensor.target] for tensor in self.mapping.tensors}

    @property
    def parameters(self) -> int:
        """The number of trainable scalars."""
        return parameter_count(self.config)

    @property
    def arguments(self) -> ConfigChanges:
        """The arguments without which ``create_model`` builds another network of this name.

        The number of classes is one of them only if it is 0: other numbers are those of the weights.
        """
        config, arguments = self.config, ConfigChanges()
        if config.in_chans != COLOURS:
            arguments["in_chans"] = config.in_chans
        if not config.num_classes:
            arguments["num_classes"] = 0
        if config.output_stride != config.output_strides[-1]:
            arguments["output_stride"] = config.output_stride
        return arguments

    @property
    def classifies_images(self) -> bool:
        """Whether the network has a head and takes RGB images."""
        return not {"num_classes", "in_chans"} & self.arguments.keys()

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
        parts = [
            f"blocks {'-'.join(map(str, config.depths))}",
            f"cardinality {config.cardinality}",
            f"width {config.width}",
            f"{config.num_classes} classes" if config.num_classes else "no head",
        ]
        if "in_chans" in self.arguments:
            parts.append(f"{config.in_chans} input channel{'s' if config.in_chans > 1 else ''}")
        if "output_stride" in self.arguments:
            parts.append(f"output stride {config.output_stride}")
        return f"{self.name}: {', '.join(parts)}"

    def with_config(self, **changes: Unpack[ConfigChanges]) -> Model:
        """Return the same network with other hyper-parameters; with 0 classes it has no head.

        Raises:
            UsageError: if the network cannot have the output stride.
        """
        try:
            return replace(self, config=replace(self.config, **changes))
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}", "output_stride") from error


def models() -> dict[str, Model]:
    """Return every model by name, in the order of the mapping files."""
    return {model.name: model for path in sorted(mapping.folder().glob("*.toml")) for model in _read(path)}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a pattern, such as "*50*"."""
    return fnmatch.filter(models(), pattern)


def select(patterns: Sequence[str]) -> tuple[Model, ...]:
    """Return the models that match any pattern.

    Raises:
        CatalogError: if a pattern matches no model.
    """
    by_name = models()
    selected: dict[str, Model] = {}
    for pattern in patterns:
        matches = fnmatch.filter(by_name, pattern)
        if not matches and not set(pattern) & set("*?["):
            matches = [find(pattern).name]  # or its error, which names the closest model
        if not matches:
            raise CatalogError(f"no model matches {pattern!r}; try gluon2torch list")
        selected |= {name: by_name[name] for name in matches}
    return tuple(selected.values())


def completions(prefix: str) -> list[str]:
    """Return the names that begin with ``prefix``: our own, or GluonCV's if no own name does."""
    own = [name for name in models() if name.startswith(prefix)]
    return own or [name for name in by_gluon_name() if name.startswith(prefix)]


def find(name: str) -> Model:
    """Return a model by its own or its GluonCV name.

    Raises:
        CatalogError: if no model has that name; the message says that it exists in GluonCV only, or
            suggests the correct spelling, or refers to the list.
    """
    by_gluon = by_gluon_name()
    model = models().get(name) or by_gluon.get(name)
    if model is None:
        native = {gluon: each.name for gluon, each in by_gluon.items()}
        raise CatalogError(unknown_names.describe_unknown(name, native))
    return model


def by_gluon_name() -> dict[str, Model]:
    """Return the models by GluonCV's name."""
    return {model.entry.gluon: model for model in models().values()}


def published_not_native(sha1: str) -> str | None:
    """Return the GluonCV model with this SHA-1 of its published file, None if it is native or unknown."""
    name = gluoncv_models.published_name(sha1)
    return None if name in by_gluon_name() else name


@cache
def _mapping(path: Path, layout: str, depths: tuple[int, ...], *, has_head: bool) -> Mapping:
    full = mapping.read(path, layout, depths)
    return full if has_head else full.without(HEAD.rpartition(".")[0])


@cache
def _read(path: Path) -> tuple[Model, ...]:
    try:
        entries = msgspec.convert(mapping.load(path)[0]["models"], dict[str, Entry])
    except (msgspec.ValidationError, KeyError) as error:
        raise CatalogError(f"{path.name}: models: {error}") from error
    if unknown := entries.keys() - CONFIGS.keys():
        raise CatalogError(f"{path.name}: models: not in resnext_torch: {', '.join(sorted(unknown))}")
    return tuple(Model(name, entry, path, CONFIGS[name]) for name, entry in entries.items())
