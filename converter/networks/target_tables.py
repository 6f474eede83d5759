"""The tables that rename the parameters of GluonCV's networks for modules of timm and torchvision.

``mappings/targets/PACKAGE/NAME.toml``, which ``tests/record_tables.py`` writes.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING

from converter.errors import MappingError, TargetError, UsageError
from converter.networks import mapping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "targets"
PACKAGES = ("timm", "torchvision")
SUFFIX = ".toml"
MAX_BYTES = 1 << 20


@cache
def tables() -> dict[str, dict[str, Path]]:
    """Return the tables by GluonCV's name of the network and by package."""
    found: dict[str, dict[str, Path]] = {}
    for package in PACKAGES:
        for path in sorted((mapping.folder() / FOLDER / package).glob(f"*{SUFFIX}")):
            found.setdefault(path.name.removesuffix(SUFFIX), {})[package] = path
    return found


def path(name: str, package: str) -> Path:
    """Return the table of a network for a package.

    Raises:
        UsageError: if there is none.
    """
    own = tables().get(name, {})
    if package in own:
        return own[package]
    hint = " or ".join(options(name)) or f"--target {package}:MODULE aligns it with a module of yours"
    raise UsageError(f"`target`: no table of {package}'s names for {name}\n  try  {hint}", "target")


def options(name: str) -> list[str]:
    """Return the options of ``convert`` that select the tables of a network, such as ``--target timm``."""
    return [f"--target {package}" for package in tables().get(name, {})]


@contextlib.contextmanager
def named_in_errors(name: str) -> Iterator[None]:
    """Add the tables of a network to errors about another target.

    Args:
        name: GluonCV's name of the network.

    Raises:
        MappingError: as raised within.
        TargetError: likewise.
    """
    try:
        yield
    except (MappingError, TargetError) as error:
        own = tables().get(name, {})
        if not own:
            raise
        hint = " or ".join(f"--target {package}, for {module(path)}" for package, path in own.items())
        raise type(error)(f"{error}\n  try  {hint}") from error


@cache
def module(path: Path) -> str:
    """Return the module that a table is for, such as ``torchvision:mobilenet_v2``."""
    document, _ = mapping.load(path, MAX_BYTES)
    return str(document["target"])
