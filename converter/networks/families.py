"""The families of GluonCV's models, from ``mappings/gluoncv/families.toml``."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from converter.choices import Task
from converter.errors import CatalogError
from converter.networks import gluoncv_models, mapping

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "gluoncv/families.toml"
NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A family of GluonCV's models.

    Attributes:
        title: its name in the literature.
        task: what its models are for.
        models: patterns of their names, as in a shell.
        files: patterns of names under which GluonCV published parameters only.
        data: the data sets in the models' names.
        paper: the title of the paper.
        arxiv: its number at arxiv.org, "" if it is not there.
    """

    title: str
    task: Task
    models: tuple[str, ...]
    files: tuple[str, ...] = ()
    data: tuple[str, ...]
    paper: str
    arxiv: str = ""

    @property
    def names(self) -> list[str]:
        """GluonCV's names of the models, in the order of the numbers in them."""
        return sorted(filter(self.contains, gluoncv_models.published_sha1s()), key=_numbers)

    def contains(self, name: str) -> bool:
        """Return whether a model of GluonCV is in the family."""
        return _matches(name, self.models)

    def has_file(self, name: str) -> bool:
        """Return whether only parameters were published under a name, for a network of the family."""
        return _matches(name, self.files)


@cache
def families() -> dict[str, Family]:
    """Return every family by its short name, in the order of the tasks."""
    table = read(mapping.folder() / FILE)
    return {name: table[name] for task in Task for name in table if table[name].task is task}


def find(name: str) -> Family | None:
    """Return the family of a model of GluonCV, None if it is in none."""
    return next((family for family in families().values() if family.contains(name)), None)


def read(path: Path) -> dict[str, Family]:
    """Return the families in a file.

    Raises:
        CatalogError: if the file is invalid, with the dotted place.
    """
    try:
        return msgspec.convert(mapping.load(path)[0], dict[str, Family])
    except msgspec.ValidationError as error:
        raise CatalogError(f"{path.name}: {error}") from error


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _numbers(name: str) -> list[str | float]:
    """Return a key that sorts resnet18 before resnet101."""
    return [float(part) if number % 2 else part for number, part in enumerate(NUMBER.split(name))]
