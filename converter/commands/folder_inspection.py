"""List the files in a folder that concern networks: parameters, graphs, class names, converted weights."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from converter.commands import graph_summary, inspection_verdict
from converter.commands.inspection_result import FolderEntry, Inspection
from converter.errors import ArtifactError, ConversionError, StorageError
from converter.formats import archives, detect
from converter.formats.kinds import DESCRIPTIONS, Kind
from converter.graphs import reader
from converter.manifests import schema
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from converter.commands.inspection_result import GraphSummary

MAX_FILES = 1000  # that are examined
# Kinds of file that say nothing about a network.
OTHER = {Kind.unknown, Kind.empty, Kind.json, Kind.xml, Kind.html, Kind.other_zip}


def inspect(folder: Path) -> Inspection:
    """List a folder, without the folders in it.

    Raises:
        StorageError: if it cannot be read.
    """
    with disk.reading(folder):
        paths = sorted(itertools.islice(folder.iterdir(), MAX_FILES))
    converted = frozenset(_converted_sizes(paths))
    entries = tuple(entry for path in paths if (entry := _entry(path, converted)))
    graphs = [folder / entry.name for entry in entries if entry.kind is Kind.graph]
    return Inspection(
        file=disk.file_name(folder.absolute()),
        size=sum(_size(path) for path in paths),
        entries=entries,
        others=len(paths) - len(entries),
        verdict=inspection_verdict.of_folder(folder, entries),
        summary=_summary(graphs[0]) if len(graphs) == 1 else None,
    )


def _summary(graph: Path) -> GraphSummary | None:
    """Return the contents of the only graph of a folder, None if it cannot be read."""
    try:
        return graph_summary.summarize(reader.read(graph))
    except ConversionError:
        return None


def _converted_sizes(paths: Sequence[Path]) -> Iterator[int]:
    """Yield the sizes of converted files in the manifests of a folder; comparing hashes would take long."""
    for path in paths:
        if path.suffix == ".json":
            with contextlib.suppress(ArtifactError, StorageError):  # another kind of file
                yield schema.read(path)[0].artifact.bytes


def _entry(path: Path, converted: Collection[int]) -> FolderEntry | None:
    """Return what a file is, None if it says nothing about a network."""
    name = disk.file_name(path)
    if path.name in archives.CLASS_LISTS:
        return FolderEntry(name=name, what="class names")
    try:
        kind = detect.kind(path)
    except ConversionError:
        return None
    if kind in OTHER:
        return None
    if kind is Kind.safetensors and _size(path) in converted:
        return FolderEntry(name=name, what="converted weights", kind=kind, is_converted=True)
    return FolderEntry(name=name, what=DESCRIPTIONS[kind].what.partition(",")[0], kind=kind)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
