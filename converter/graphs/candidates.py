"""List the files that may be the graph of a parameter file, in the same archive or folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import StorageError
from converter.formats.detect import GRAPH_SUFFIX
from converter.graphs import reader
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.graph import Graph

EXPORTED = re.compile(r"(?P<prefix>.+?)(?P<epoch>-[0-9]{4,})?\.params(\.gz|\.zip)?")
BEGIN_BYTES = 64  # enough to reach the brace of a JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that may be a graph.

    Attributes:
        file: its name in messages.
        name: its file name.
        path: its path, None for a member of an archive.
        expected: whether it is the graph of the parameters by its name alone.
        content: its bytes.
        error: the reason why it cannot be read, None if it can.
    """

    file: str
    name: str
    path: Path | None
    expected: bool
    content: bytes = b""
    error: StorageError | None = None

    def parse(self) -> Graph:
        """Return the graph.

        Raises:
            StorageError: if the file cannot be read.
            SymbolError: if it is not a graph.
        """
        if self.error is not None:
            raise self.error
        return reader.parse(self.content, file=self.file, name=self.name, path=self.path)

    def may_belong_to(self, params: Path) -> bool:
        """Return whether it is named like a graph, but not like that of another parameter file."""
        if self.path is None or not self.name.endswith(GRAPH_SUFFIX):
            return False
        return not belongs_to_other_params(self.path, params)


def partner(params: Path) -> tuple[Path, bool]:
    """Return MXNet's path for the graph of a file, and whether the file is named like an export."""
    match = EXPORTED.fullmatch(params.name)
    prefix = match["prefix"] if match else params.stem
    return params.with_name(f"{prefix}{GRAPH_SUFFIX}"), bool(match and match["epoch"])


def in_archive(archive: Path, documents: dict[str, bytes]) -> Iterator[Candidate]:
    """Yield the members of an archive that look like graphs.

    Args:
        archive: the archive.
        documents: the JSON files in it, by name.
    """
    for member, content in documents.items():
        name = Path(member).name
        expected = name.endswith(GRAPH_SUFFIX)
        if expected or _is_graph(content):
            file = f"{archive}: {member}"
            yield Candidate(file=file, name=name, path=None, expected=expected, content=content)


def in_folder(params: Path) -> Iterator[Candidate]:
    """Yield the files in the parameters' folder that look like graphs, sorted by name."""
    own, _ = partner(params)
    for path in _readable(params.parent, own):
        name, expected = disk.file_name(path), path == own
        try:
            content = disk.read_small(path, reader.MAX_BYTES)
        except StorageError as error:
            yield Candidate(file=str(path), name=name, path=path, expected=expected, error=error)
            continue
        if expected or name.endswith(GRAPH_SUFFIX) or _is_graph(content):
            yield Candidate(file=str(path), name=name, path=path, expected=expected, content=content)


def belongs_to_other_params(graph: Path, params: Path) -> bool:
    """Return whether another parameter file exists to which MXNet's naming rule assigns a graph."""
    prefix = graph.name.removesuffix(GRAPH_SUFFIX)
    try:
        others = {path.name for path in graph.parent.iterdir()} - {params.name}
    except OSError:
        return False
    exported = filter(None, map(EXPORTED.fullmatch, others))
    return any(match["prefix"] == prefix for match in exported)


def exists(path: Path) -> bool:
    """Return whether a path exists, as a broken link too; a name that is too long does not exist."""
    return os.path.lexists(path)


def _readable(folder: Path, own: Path) -> Iterator[Path]:
    """Yield the files that begin like a JSON object or are named like a graph, sorted by name."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # the folder can be entered but not listed
        paths = [own]
    for path in paths:
        if (path == own and exists(path)) or _looks_like_graph(path):
            yield path


def _looks_like_graph(path: Path) -> bool:
    """Return whether a file is named like a graph, or is not too large and begins with a JSON object."""
    try:
        if not path.is_file():
            return False
        if path.name.endswith(GRAPH_SUFFIX):
            return True
        if path.stat().st_size > reader.MAX_BYTES:
            return False
        with path.open("rb") as stream:
            return stream.read(BEGIN_BYTES).lstrip()[:1] == b"{"
    except OSError:
        return False


def _is_graph(content: bytes) -> bool:
    return b'"nodes"' in content  # a truncated graph contains it too
