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
from converter.manifests.schema import TrainedManifest
from converter.storage import disk
from resnext_torch.weight_files import MANIFEST, PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
    trained = dict(_recorded_files(paths))
    entries = tuple(entry for path in paths if (entry := _entry(path, trained)))
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


def _recorded_files(paths: Sequence[Path]) -> Iterator[tuple[tuple[str, int], bool]]:
    """Yield the name and size of the file in each manifest of a folder, and whether the file was trained.

    Comparing hashes would take long; `verify` does.
    """
    for path in paths:
        if path.suffix == ".json":
            with contextlib.suppress(ArtifactError, StorageError):  # another kind of file
                manifest, _ = schema.read_any(path)
                name = PUBLISHED if path.name == MANIFEST else manifest.artifact.file
                yield (name, manifest.artifact.bytes), isinstance(manifest, TrainedManifest)


def _entry(path: Path, trained: Mapping[tuple[str, int], bool]) -> FolderEntry | None:
    """Return what a file is, None if it says nothing about a network.

    Args:
        path: the file.
        trained: whether each recorded file was trained, by its name and size.
    """
    name = disk.file_name(path)
    if path.name in archives.CLASS_LISTS:
        return FolderEntry(name=name, what="class names")
    try:
        kind = detect.kind(path)
    except ConversionError:
        return None
    if kind in OTHER:
        return None
    if kind is Kind.safetensors and (is_trained := trained.get((path.name, _size(path)))) is not None:
        what = "trained weights" if is_trained else "converted weights"
        return FolderEntry(
            name=name, what=what, kind=kind, is_converted=not is_trained, is_trained=is_trained
        )
    return FolderEntry(name=name, what=DESCRIPTIONS[kind].what.partition(",")[0], kind=kind)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
