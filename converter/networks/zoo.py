"""All models of GluonCV: the family of each, what it becomes, and its published figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from converter.networks import (
    catalog,
    families,
    gluoncv_models,
    mapping,
    published_figures,
    recorded_index,
    target_tables,
)
from converter.networks.published_figures import IMAGENET, TOP1, TOP5, ModelFigures
from resnext_torch import names

if TYPE_CHECKING:
    from converter.networks.catalog import Model
    from converter.networks.families import Family

ACCURACY_DIGITS = 2  # of the figures in mappings/*.toml


class TargetKind(StrEnum):
    """What a model becomes."""

    native = "native"  # a network of resnext_torch
    generated = "generated"  # a module from the recorded graph


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """A model of GluonCV.

    Attributes:
        gluon: its name in GluonCV.
        family: the short name of its family.
        native: its network in resnext_torch, None if there is none.
    """

    gluon: str
    family: str
    native: Model | None

    @property
    def name(self) -> str:
        """Our name, or GluonCV's if the model has no native network."""
        return self.native.name if self.native else self.gluon

    @property
    def description(self) -> Family:
        """The description of its family."""
        return families.families()[self.family]

    @property
    def target(self) -> TargetKind | None:
        """What the model becomes, None if it is not converted by its name."""
        if self.native:
            return TargetKind.native
        return TargetKind.generated if self.convertible else None

    @property
    def convertible(self) -> bool:
        """Whether ``convert NAME`` converts the model."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why ``convert NAME`` does not convert the model, "" if it does."""
        return "" if self.native else recorded_index.refusal(self.gluon)

    @property
    def sha1(self) -> str:
        """The SHA-1 of the published parameters, "" if none were published."""
        entry = recorded_index.index().get(self.gluon)
        return (entry.sha1 if entry else "") or gluoncv_models.published_sha1s()[self.gluon]

    @property
    def parameters(self) -> int | None:
        """The number of trainable scalars, None if it is not known."""
        return self.native.parameters if self.native else None

    @property
    def timm(self) -> str | None:
        """The name of the same network in timm, None if there is none."""
        return names.TIMM_ARCHITECTURES.get(self.name) or self._in_table("timm")

    @property
    def torchvision(self) -> str | None:
        """The name of the same network in torchvision, None if there is none."""
        return names.TORCHVISION_ARCHITECTURES.get(self.name) or self._in_table("torchvision")

    @property
    def tables(self) -> tuple[str, ...]:
        """The files of ``mappings/`` that rename its parameters for other packages."""
        own = target_tables.tables().get(self.gluon, {})
        return tuple(path.relative_to(mapping.folder()).as_posix() for path in own.values())

    def _in_table(self, package: str) -> str | None:
        path = target_tables.tables().get(self.gluon, {}).get(package)
        return None if path is None else target_tables.module(path).removeprefix(f"{package}:")

    @property
    def figures(self) -> ModelFigures | None:
        """The figures that GluonCV published, None if it published none."""
        entry = self.native.entry if self.native else None
        if entry is None or entry.top1 is None or entry.top5 is None:
            return published_figures.figures().get(self.gluon)
        values = {TOP1: entry.top1, TOP5: entry.top5}
        return ModelFigures(data=IMAGENET, values=values, digits=ACCURACY_DIGITS)


@cache
def models() -> dict[str, ZooModel]:
    """Return every model by GluonCV's name, family by family."""
    native = catalog.by_gluon_name()
    return {
        name: ZooModel(gluon=name, family=key, native=native.get(name))
        for key, family in families.families().items()
        for name in family.names
    }


def convertible(name: str) -> bool:
    """Return whether ``convert NAME`` converts the model with this name in GluonCV."""
    return name in catalog.by_gluon_name() or not recorded_index.refusal(name)


def completions(prefix: str) -> list[str]:
    """Return the names that begin with ``prefix``: our own, or GluonCV's if no own name does."""
    own = [name for name in catalog.models() if name.startswith(prefix)]
    return own or [name for name in models() if name.startswith(prefix)]
