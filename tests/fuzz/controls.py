"""Misbehaving readers, which the harness must detect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

from fuzz import mutation
from fuzz.targets import Target

from converter.errors import ParamsError
from converter.graphs.codegen import safe_source

if TYPE_CHECKING:
    from pathlib import Path

GREED = 1 << 28


def leaks(_: Path) -> NoReturn:
    raise KeyError("arrays")


def hangs(_: Path) -> None:
    time.sleep(3600)


def grabs(_: Path) -> None:
    raise ParamsError(f"{len(bytearray(GREED))} bytes for a file of none")


def strays(path: Path) -> None:
    (path.parent / "escaped").touch()


def injects(path: Path) -> None:
    safe_source.require_safe(f'"""A network."""\n{path.read_text()}')


def empty() -> list[bytes]:
    return []


CONTROLS = {
    read.__name__: Target(read, "a", empty, mutation.flip, runs=0)
    for read in (leaks, hangs, grabs, strays, injects)
}
