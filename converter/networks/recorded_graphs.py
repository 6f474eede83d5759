"""GluonCV's networks as graphs that were recorded with GluonCV: they need neither MXNet nor a graph file.

``nox -s record`` writes ``mappings/graphs``: ``index.json`` describes the networks; ``NAME.json.xz`` contains
a network's graph, and the structural name, the variable and the shape of each parameter.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from converter.errors import CatalogError
from converter.formats.detect import GRAPH_SUFFIX
from converter.graphs import reader
from converter.networks import gluoncv_models, recorded_index
from converter.networks.recorded_index import Shape  # noqa: TC001 - evaluated
from converter.sources.published_file import PublishedFile

if TYPE_CHECKING:
    from pathlib import Path

    from converter.graphs.graph import Graph
    from converter.networks.recorded_index import RecordedEntry

SUFFIX = ".json.xz"
MAX_KEPT = 8  # for many checkpoints of a few networks


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a graph."""

    parameters: tuple[tuple[str, str, Shape], ...]
    graph: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a recorded network.

    Attributes:
        name: its structural name.
        variable: its name in the graph, which is its prefix name; two parameters may share one.
        shape: its shape.
    """

    name: str
    variable: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedNetwork:
    """A network of GluonCV and its graph.

    Attributes:
        name: GluonCV's name.
        entry: its entry in the index.
        parameters: its parameters, in the order of ``save_parameters``.
        document: its graph, as MXNet wrote it.
        graph: the graph.
        classes: the number of classes of a classifier, None of another network.
    """

    name: str
    entry: RecordedEntry
    parameters: tuple[Parameter, ...]
    document: dict[str, Any]
    graph: Graph
    classes: int | None

    @property
    def published(self) -> PublishedFile:
        """The parameters that GluonCV published."""
        sha1 = self.entry.sha1 or gluoncv_models.published_sha1s().get(self.name, "")
        file = self.entry.file or f"{self.name}-{sha1[:8] or 'unpublished'}.params"
        return PublishedFile(model=self.name, name=file, sha1=sha1)


def load(name: str) -> RecordedNetwork:
    """Return a recorded network; it is shared, and must not be changed.

    Raises:
        CatalogError: if there is none of that name, or if its file is damaged.
    """
    entry = recorded_index.index().get(name)
    if entry is None:
        raise CatalogError(f"{name}: not among GluonCV's networks with a recorded graph")
    return _load(recorded_index.folder(), name, entry)


@lru_cache(MAX_KEPT)
def _load(folder: Path, name: str, entry: RecordedEntry) -> RecordedNetwork:
    document = _read(folder / f"{name}{SUFFIX}", entry.sha256)
    return RecordedNetwork(
        name=name,
        entry=entry,
        parameters=tuple(
            Parameter(name=structural, variable=variable, shape=shape)
            for structural, variable, shape in document.parameters
        ),
        document=document.graph,
        graph=parse(name, document.graph),
        classes=entry.classes,
    )


def parse(name: str, document: dict[str, Any]) -> Graph:
    """Return the graph of a network from MXNet's document."""
    content = json.dumps(document).encode()
    return reader.parse(content, file=f"GluonCV's {name}", name=f"{name}{GRAPH_SUFFIX}")


def _read(path: Path, sha256: str) -> _Document:
    try:
        packed = path.read_bytes()
        if hashlib.sha256(packed).hexdigest() != sha256:
            raise CatalogError(f"{path}: damaged: expected SHA-256 {sha256}; install gluon2torch again")
        return msgspec.json.decode(lzma.decompress(packed), type=_Document)
    except (OSError, lzma.LZMAError, msgspec.DecodeError) as error:
        raise CatalogError(f"{path}: {error}; install gluon2torch again") from error
