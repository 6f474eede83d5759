"""The index of GluonCV's networks whose graphs are recorded in ``mappings/graphs``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from converter.errors import CatalogError
from converter.networks import mapping

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "graphs"
INDEX = "index.json"
CLASSIFIER_AXES = 2  # of an output (n, classes)

Shape = tuple[int, ...]


class RecordedEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network in the index.

    Attributes:
        input: the shape of the input on which GluonCV evaluates the network.
        outputs: the shapes of its outputs for that input.
        probe: the shape of a small input that it takes, too, or ``input``.
        counts: how many parameters it saves by structural name, by prefix name, and in its graph.
        sha256: the SHA-256 of the file of its graph.
        unsupported: the operators that cannot be converted.
        file: the name of the published parameters, "" for ``NAME-SHA1[:8].params``.
        sha1: their SHA-1, "" for that of ``mappings/gluoncv/models.toml``.
    """

    input: Shape
    outputs: tuple[Shape, ...]
    probe: Shape
    counts: tuple[int, int, int]
    sha256: str
    unsupported: tuple[str, ...] = ()
    file: str = ""
    sha1: str = ""

    @property
    def classes(self) -> int | None:
        """The number of classes of a network that computes nothing else, None of another network."""
        (*_, last) = self.outputs
        return last[1] if len(self.outputs) == 1 and len(last) == CLASSIFIER_AXES else None


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The index: the versions, the networks, and why others are missing."""

    versions: dict[str, str]
    missing: dict[str, str]
    graphs: dict[str, RecordedEntry]


@cache
def index() -> dict[str, RecordedEntry]:
    """Return the recorded networks by name."""
    return _index().graphs


def missing() -> dict[str, str]:
    """Return the networks of GluonCV that were not recorded, and why."""
    return _index().missing


def refusal(name: str) -> str:
    """Return why a network is not converted from a recorded graph, "" if it is."""
    entry = index().get(name)
    if entry is None:
        return missing().get(name, "its graph was not recorded")
    operators = ", ".join(entry.unsupported)
    return f"its operators cannot be converted: {operators}" if operators else ""


@cache
def _index() -> _Index:
    path = folder() / INDEX
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError) as error:
        raise CatalogError(f"{path}: {error}; install gluon2torch again") from error


def folder() -> Path:
    """Return the folder of the recorded graphs."""
    return mapping.folder() / FOLDER
