"""A checkpoint of a fleet, with the files that belong to it."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec.structs
from msgspec import Struct

from converter.networks.selection import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from converter.storage.store import StoredFile

SUFFIXES = {".params", ".gz", ".zip", ".mar", ".tar", ".tgz"}
ABSENT = "absent"  # the version of a file that a listing does not show


class CheckpointSource(Struct, frozen=True, kw_only=True):
    """A checkpoint and the files that belong to it; all are files of one store.

    Attributes:
        name: its name in rows.
        store: location of the store.
        params: the parameters, or an archive of them.
        graph: the graph, None for the one in the archive.
        labels: the class names.
        requires_labels: whether they were selected, and not found next to the parameters.
        model: name of the model, or "auto".
        input_shapes: shapes of the graph's inputs in the proof.
        refusal: why it must not be read, "" if it may.
        stamp: digest of the names, sizes and versions of the files, and of these settings.
        is_listed: whether a listing shows all files; it shows none behind a link.
    """

    name: str
    store: str
    params: str
    graph: str | None = None
    labels: str | None = None
    requires_labels: bool = False
    model: str = AUTO
    input_shapes: dict[str, tuple[int, ...]] | None = None
    refusal: str = ""
    stamp: str = ""
    is_listed: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(name for name in (self.params, self.graph, self.labels) if name)


def stamped(source: CheckpointSource, entries: Mapping[str, StoredFile]) -> CheckpointSource:
    """Return a source with a digest of what a listing and the settings say of it."""
    lines = _settings(source)
    for name in source.files:
        entry = entries.get(name)
        lines += [f"{source.store}/{name}", *([str(entry.size), entry.version] if entry else [ABSENT])]
    digest = hashlib.sha256("\0".join(lines).encode(errors="surrogateescape")).hexdigest()
    return msgspec.structs.replace(
        source, stamp=digest, is_listed=all(name in entries for name in source.files)
    )


def content(source: CheckpointSource, digests: Iterable[str]) -> str:
    """Return a digest of a source's settings, and of the digests of its files."""
    return hashlib.sha256("\0".join([*_settings(source), *digests]).encode()).hexdigest()


def _settings(source: CheckpointSource) -> list[str]:
    return [source.model, repr(source.input_shapes), repr(source.requires_labels)]


def output_folder(source: CheckpointSource, content: str) -> str:
    """Return the folder of a source's files in the output.

    Each content has its own: files of the same name from different sources or versions never collide.
    """
    place = PurePosixPath(source.params)
    stem = place.name
    while (suffix := PurePosixPath(stem).suffix) in SUFFIXES and stem != suffix:
        stem = stem.removesuffix(suffix)
    return (place.parent / f"{stem}-{content[:8]}").as_posix()
