"""Reads a list of checkpoints: CSV with a header, or JSON lines.

| column | contents |
|---|---|
| ``source`` | the checkpoint; with ``params``, its graph |
| ``model`` | name of the model, detected by default |
| ``params`` | the parameters |
| ``symbol`` | the graph, by default the one next to the parameters |
| ``labels`` | the class names, likewise |
| ``input`` | shapes of the graph's inputs in the proof: ``data=1x3x224x224``, with spaces between several |

Places are URLs or paths; a relative one begins at the list. Other columns are ignored. A line with an
``https://`` URL cannot name other files: web servers have no listings.
"""

from __future__ import annotations

import csv
import difflib
import io
import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec
import msgspec.structs

from converter.errors import SourceError, StorageError, UsageError
from converter.fleet import inventory, sources
from converter.fleet.sources import CheckpointSource
from converter.networks.selection import AUTO
from converter.storage import store_names, stores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.storage.store import StoredFile

SUFFIXES = (".csv", ".jsonl", ".ndjson")
MAX_BYTES = 1 << 26  # half a million lines
SIMILAR = 0.8  # the ratio of difflib: 0.83 for "lables" and "labels"
SHAPE = re.compile(r"(?P<name>[^=\s]+)=(?P<shape>[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})*)")


class ListLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a list; an empty value is treated as missing."""

    source: str
    model: str | None = None
    params: str | None = None
    symbol: str | None = None
    labels: str | None = None
    input: str | None = None


def is_list(location: str) -> bool:
    """Return whether a location is a list, by its ending."""
    return location.lower().endswith(SUFFIXES)


def read(location: str) -> list[CheckpointSource]:
    """Return the checkpoints on a list, in its order; each store that they are in is listed once.

    Raises:
        SourceError: if a line is not valid, or two are of the same checkpoint.
        StorageError: if the list cannot be read.
    """
    store, name = stores.locate(location)
    content = store.read(name, MAX_BYTES)
    folder = _folder(location)
    lines = _lines(content, location)
    names = Counter(line.params or line.source for line in lines)
    if doubled := [name for name, count in names.items() if count > 1]:
        raise SourceError(f"{location}: {doubled[0]} is listed twice")
    selected = [_select(line, folder, location) for line in lines]
    return _resolve(selected)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """A line, with its places as absolute locations in one bucket or on this machine."""

    line: ListLine
    params: str
    graph: str | None
    labels: str | None
    shapes: dict[str, tuple[int, ...]] | None

    @property
    def places(self) -> list[str]:
        return [place for place in (self.params, self.graph, self.labels) if place]


def _lines(content: bytes, location: str) -> list[ListLine]:
    """Return the lines of a list.

    Raises:
        SourceError: if a line is not valid, with its number, or if the list is empty.
    """
    try:
        text = content.decode("utf-8-sig")
        rows = _csv_rows(text) if location.lower().endswith(".csv") else _json_rows(text)
        lines = [_line(number, row) for number, row in rows]
    except ValueError as error:
        columns = ", ".join(ListLine.__struct_fields__)
        raise SourceError(f"{location}: not a list of checkpoints: {error}\n  columns  {columns}") from error
    if not lines:
        raise SourceError(f"{location}: the list contains no checkpoint")
    return lines


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of each row's last line, and its values by column.

    Raises:
        ValueError: if a row is not valid.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num}: more values than columns")
            yield reader.line_num, {name: value for name, value in row.items() if value}
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of each line, and its values by name.

    Raises:
        ValueError: if a line is not a JSON object.
    """
    decoder = msgspec.json.Decoder(dict[str, object])
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(f"line {number}: {error}") from error
            yield number, row


def _line(number: int, row: dict[str, object]) -> ListLine:
    """Return a line; unknown columns are ignored, unless their names look like misspellings.

    Raises:
        ValueError: if a value is not valid or missing, or a column is misspelled.
    """
    known = ListLine.__struct_fields__
    for name in row:
        if name not in known and (close := difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)):
            raise ValueError(f"line {number}: unknown column {name}; did you mean {close[0]}?")
    try:
        return msgspec.convert(row, ListLine)
    except msgspec.ValidationError as error:
        raise ValueError(f"line {number}: {error}") from error


def _select(line: ListLine, folder: str, location: str) -> _Selection:
    """Return the places of a line.

    Raises:
        SourceError: if they contradict each other.
    """
    if line.params and line.symbol:
        raise SourceError(
            f"{location}: {line.source}: with params, the source is the graph, so symbol cannot be used"
        )
    matches = [SHAPE.fullmatch(word) for word in (line.input or "").split()]
    shapes = {match["name"]: _shape(match["shape"]) for match in matches if match}
    if len(shapes) < len(matches):
        raise SourceError(
            f"{location}: {line.source}: input {line.input!r} is not NAME=SHAPE, such as data=1x3x224x224"
        )
    graph = line.source if line.params else line.symbol
    selected = _Selection(
        line=line,
        params=_absolute(line.params or line.source, folder),
        graph=graph and _absolute(graph, folder),
        labels=line.labels and _absolute(line.labels, folder),
        shapes=shapes or None,
    )
    if len({_root(place) for place in selected.places}) > 1:
        raise SourceError(
            f"{location}: {line.source}: its files must have a bucket or a folder in common; "
            "a line with an https:// URL cannot name other files"
        )
    return selected


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def _folder(location: str) -> str:
    """Return the folder of a list, in which relative places begin."""
    scheme = store_names.scheme(location)
    if scheme in {"", "file"}:
        return str((store_names.local_path(location) if scheme else Path(location)).parent)
    return posixpath.dirname(location)


def _absolute(place: str, folder: str) -> str:
    """Return a place as an absolute path or a URL.

    Raises:
        SourceError: if it is a URL with a query or credentials, of another computer, or with . or ..
    """
    scheme = store_names.scheme(place)
    try:
        if scheme:
            store_names.require_plain(place)
        path = str(store_names.local_path(place)) if scheme == "file" else place
    except UsageError as error:
        raise SourceError(str(error)) from error
    if scheme == "file" or not (scheme or store_names.scheme(folder)):
        return posixpath.normpath(Path(folder, path).absolute().as_posix())
    url = place if scheme else f"{folder}/{place}"
    if {".", ".."} & {*url.split("/")}:
        raise SourceError(f"{store_names.public(url)}: a URL with . or .., which stores do not resolve")
    if scheme in store_names.WEB and url.endswith("/"):
        raise SourceError(f"{store_names.public(url)}: expected the URL of a file")
    return url


def _root(place: str) -> str:
    """Return the bucket of a URL, or the first folder of a path: the whole disk is never listed.

    A file on a web server is a store of its own.
    """
    scheme = store_names.scheme(place)
    if scheme in store_names.WEB:
        return place
    start = f"{scheme}://" if scheme else PurePath(place).anchor.replace("\\", "/")
    return start + place.removeprefix(start).partition("/")[0]


def _resolve(selected: Sequence[_Selection]) -> list[CheckpointSource]:
    """Return the sources, with the files that listings of their stores add."""
    folders: dict[str, set[str]] = defaultdict(set)
    for each in selected:
        for place in each.places:
            folders[_root(place)].add(posixpath.dirname(place.removeprefix(_root(place))))
    locations = {root: root + posixpath.commonpath(places) for root, places in folders.items()}
    listed = {root: _list(store) for root, store in locations.items()}
    listings = {root: files for root, (files, _) in listed.items()}
    found = {
        root: {source.params: source for source in inventory.find(locations[root], listing.values())}
        for root, listing in listings.items()
    }
    result = []
    for each in selected:
        root = _root(each.params)
        source = _source(each, locations[root], found[root], refusal=listed[root][1])
        result.append(sources.stamped(source, listings[root]))
    return result


def _list(store: str) -> tuple[dict[str, StoredFile], str]:
    """Return the files in a store, and why it cannot be listed."""
    try:
        return {file.name: file for file in stores.open_store(store).entries()}, ""
    except (StorageError, UsageError) as error:
        return {}, str(error)


def _source(
    selected: _Selection, store: str, found: Mapping[str, CheckpointSource], refusal: str
) -> CheckpointSource:
    """Return the source of a line; what it does not select is what a search finds."""
    line = selected.line
    params, graph, labels = (
        place and (place.removeprefix(store).lstrip("/") or posixpath.basename(place))
        for place in (selected.params, selected.graph, selected.labels)
    )
    neighbour = found.get(params or "")
    return CheckpointSource(
        name=line.params or line.source,
        store=store,
        params=params or "",
        graph=graph or (neighbour.graph if neighbour else None),
        labels=labels or (neighbour.labels if neighbour else None),
        requires_labels=labels is not None,
        model=line.model or AUTO,
        input_shapes=selected.shapes,
        refusal=refusal,
    )
