"""Select GluonCV's models by name, task and family, and count what the families become."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING

from converter import names
from converter.errors import CatalogError, UsageError
from converter.networks import catalog, families, zoo
from converter.networks.zoo import TargetKind, ZooModel
from resnext_torch.names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.choices import Task
    from converter.networks.families import Family

NOT_BY_NAME = "not by name"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyOverview:
    """A family, and what its models become.

    Attributes:
        name: its short name.
        description: its description.
        example: a model; one that is native or has published figures, if there is one.
        targets: the number of models with each target; None: not converted by name.
    """

    name: str
    description: Family
    example: str
    targets: Counter[TargetKind | None]


def overview() -> tuple[FamilyOverview, ...]:
    """Return every family, in the order of the tasks."""
    return tuple(
        _overview(name, tuple(members))
        for name, members in groupby(zoo.models().values(), operator.attrgetter("family"))
    )


def select(
    pattern: str = "*", *, task: Task | None = None, family: str | None = None
) -> tuple[ZooModel, ...]:
    """Return the models that match a pattern, with our names or GluonCV's, and are in a task and a family.

    Raises:
        CatalogError: if there are none; the message suggests the correct spelling of a name.
        UsageError: if there is no such family.
    """
    if family is not None and family not in families.families():
        raise UsageError(f"`family`: {_unknown_family(family)}", "family")
    matches = _matches(pattern)
    selected = tuple(
        model
        for model in matches
        if task in {None, model.description.task} and family in {None, model.family}
    )
    if not selected:
        place = " and ".join([f"task {task}"] * bool(task) + [f"family {family}"] * bool(family))
        raise CatalogError(f"no model of {place} matches {pattern!r}; try gluon2torch list")
    return selected


def becomes(targets: Counter[TargetKind | None]) -> str:
    """Return what models become, such as "native" or "17 native, 7 generated, 2 not by name"."""
    present = {target or NOT_BY_NAME: targets[target] for target in (*TargetKind, None) if targets[target]}
    if len(present) == 1:
        return str(*present)
    return ", ".join(f"{count} {target}" for target, count in present.items())


def _overview(name: str, members: tuple[ZooModel, ...]) -> FamilyOverview:
    native = [model for model in members if model.native]
    evaluated = [model for model in members if model.figures]
    return FamilyOverview(
        name=name,
        description=families.families()[name],
        example=(native or evaluated or members)[0].name,
        targets=Counter(model.target for model in members),
    )


def _matches(pattern: str) -> Iterable[ZooModel]:
    """Return the models whose name, ours or GluonCV's, matches a pattern.

    Raises:
        CatalogError: if there are none.
    """
    models = zoo.models()
    matches = [
        model
        for model in models.values()
        if fnmatchcase(model.name, pattern) or fnmatchcase(model.gluon, pattern)
    ]
    if matches:
        return matches
    if set(pattern) & set("*?["):
        raise CatalogError(f"no model matches {pattern!r}; try gluon2torch list")
    plain = pattern.removeprefix(PREFIX)
    return [models[plain if plain in models else catalog.find(pattern).entry.gluon]]


def _unknown_family(name: str) -> str:
    nearest = names.nearest(name, families.families())
    return f"unknown family {name!r}; " + (f"did you mean {nearest}?" if nearest else "try gluon2torch list")
