"""Finds the checkpoints in the listing of a store, each with its graph and its class names.

| file | belongs to |
|---|---|
| ``net-symbol.json`` | ``net-0000.params`` and ``net.params``, by MXNet's rule |
| the only ``-symbol.json`` in a folder | the only parameters in it |
| ``net.txt``, ``net-labels.txt``, … | the parameters of that name |
| ``synset.txt``, ``classes.txt``, … | the parameters in the folder that have no list of their own |

Archives contain what belongs to them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from converter.fleet import sources
from converter.fleet.sources import CheckpointSource
from converter.formats.archives import CLASS_LISTS
from converter.formats.detect import GRAPH_SUFFIX
from converter.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from converter.storage.store import StoredFile

PARAMS = re.compile(r"(?P<prefix>.+?)(-[0-9]{4,})?\.params(\.gz|\.zip)?")
ARCHIVE = re.compile(r".+\.(mar|zip|tar|tgz|tar\.gz)")
LABEL_ENDINGS = (
    ".txt",
    *(
        f"{mark}{word}"
        for word in ("labels.txt", "labels.json", "classes.txt", "classes.json", "synset.txt")
        for mark in "-_."
    ),
)
IGNORED = ("__MACOSX", ".")  # starts of folders and files that no user made


def find(
    store: str, entries: Iterable[StoredFile], refused: Mapping[str, str] = MappingProxyType({})
) -> list[CheckpointSource]:
    """Return the checkpoints in a listing, sorted by name.

    Args:
        store: location of the store.
        entries: its files.
        refused: names that must not be read, with the reason.
    """
    listed = {entry.name: entry for entry in entries if not _is_ignored(entry.name)}
    folders: dict[PurePosixPath, list[str]] = defaultdict(list)
    for name in listed:
        place = PurePosixPath(name)
        folders[place.parent].append(place.name)
    found = [
        source for folder, names in folders.items() for source in _in_folder(store, folder, sorted(names))
    ]
    found += [
        CheckpointSource(name=printable(name), store=store, params=printable(name), refusal=reason)
        for name, reason in refused.items()
        if not _is_ignored(name) and is_checkpoint(name)
    ]
    return sorted((sources.stamped(each, listed) for each in found), key=lambda source: source.name)


def is_checkpoint(name: str) -> bool:
    """Return whether a file is named like parameters or an archive."""
    file = PurePosixPath(name).name
    return bool(PARAMS.fullmatch(file) or ARCHIVE.fullmatch(file))


def _is_ignored(name: str) -> bool:
    return any(part.startswith(IGNORED) for part in name.split("/"))


def _in_folder(store: str, folder: PurePosixPath, names: list[str]) -> list[CheckpointSource]:
    params = {name: match["prefix"] for name in names if (match := PARAMS.fullmatch(name))}
    archives = [name for name in names if name not in params and ARCHIVE.fullmatch(name)]
    graphs = {name.removesuffix(GRAPH_SUFFIX): name for name in names if name.endswith(GRAPH_SUFFIX)}
    if len({*params.values()}) == 1 == len(graphs):
        graphs = dict.fromkeys(params.values(), *graphs.values())

    present = {*names}

    def place(name: str | None) -> str | None:
        return None if name is None else (folder / name).as_posix()

    return [
        CheckpointSource(
            name=(folder / name).as_posix(),
            store=store,
            params=(folder / name).as_posix(),
            graph=place(graphs.get(prefix)),
            labels=place(_labels(prefix, present)),
        )
        for name, prefix in {**params, **dict.fromkeys(archives, "")}.items()
    ]


def _labels(prefix: str, names: set[str]) -> str | None:
    """Return the list of class names of parameters, None without one; an archive has an empty prefix."""
    if not prefix:
        return None
    own = (f"{prefix}{ending}" for ending in LABEL_ENDINGS)
    return next((name for name in (*own, *CLASS_LISTS) if name in names), None)
