"""The rows of all runs on one output folder, each run's in a journal of its own.

No two runs write the same object, so that none loses what another did. The index is computed from all
journals, by ``merge``.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from converter.errors import StorageError
from converter.fleet.rows import Row, Verdict
from converter.storage import disk, stores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.storage.store import Store, StoredFile

RUNS = ".runs"  # the folder of the journals
SUFFIX = ".jsonl"
MAX_BYTES = 1 << 30  # two million rows
SECONDS = 10.0  # between two writings of a journal, which is written whole
WRITING_SHARE = 20  # a journal that takes a second to write is written every 20 seconds


def now() -> str:
    """Return the time in UTC, as text that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Journal:
    """The journal of this run."""

    def __init__(self, out: Store) -> None:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.name = f"{RUNS}/{started}-{secrets.token_hex(4)}{SUFFIX}"
        self._out = out
        self._lines: list[bytes] = []
        self._is_written = False
        self._next = time.monotonic() + SECONDS

    def add(self, row: Row) -> None:
        """Add a row, and write the journal if that is due; if that fails, at a later time."""
        self._lines.append(msgspec.json.encode(row))
        self._is_written = False
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS
            with contextlib.suppress(StorageError):  # the last `write` reports it
                self.write()

    def write(self) -> None:
        """Write the journal, unless nothing was added.

        Raises:
            StorageError: if it cannot be written.
        """
        if self._is_written:
            return
        started = time.monotonic()
        self._out.write(self.name, b"".join(line + b"\n" for line in self._lines))
        self._is_written = True
        ended = time.monotonic()
        self._next = ended + max(SECONDS, WRITING_SHARE * (ended - started))


class Journals:
    """The journals in an output folder; one that has not changed is read once."""

    def __init__(self, out: Store) -> None:
        self._out = out
        self._folder = stores.open_store(f"{out.url}/{RUNS}")
        self._read: dict[StoredFile, list[Row]] = {}

    def exist(self) -> bool:
        """Return whether a run has written a journal."""
        folder = self._folder.folder
        return (folder is None or disk.is_folder(folder)) and bool(self.versions())

    def versions(self) -> frozenset[StoredFile]:
        """Return the names, sizes and versions of the journals."""
        return frozenset(entry for entry in self._folder.entries() if entry.name.endswith(SUFFIX))

    def merge(self, versions: Iterable[StoredFile]) -> dict[str, Row]:
        """Return the state of each source, sorted by name.

        Raises:
            StorageError: if a journal cannot be read.
        """
        self._read = {
            entry: self._read[entry] if entry in self._read else self._rows(entry) for entry in versions
        }
        return merge(row for rows in self._read.values() for row in rows)

    def _rows(self, entry: StoredFile) -> list[Row]:
        content = self._folder.read(entry.name, MAX_BYTES)
        decoder = msgspec.json.Decoder(Row)
        # A last line without an end was cut off, for example by a copy; its source is converted again.
        lines = content.split(b"\n")[:-1]
        try:
            return [decoder.decode(line) for line in lines]
        except msgspec.MsgspecError as error:
            raise StorageError(
                f"{self._out.url}/{RUNS}/{entry.name}: not a journal: {error}\n"
                "  Remove it; what only this journal records is then converted again."
            ) from error


def merge(rows: Iterable[Row]) -> dict[str, Row]:
    """Return the state of each source, sorted by name: of the rows of its newest version the best one.

    A row without a stamp says that a run skipped the source, whose state does not change. A failure does not
    replace a success of the same version, nor an unproven conversion a proven one.
    """
    by_source: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.finished):
        by_source.setdefault(row.source, []).append(row)
    states = ((name, _state(by_source[name])) for name in sorted(by_source))
    return {name: row for name, row in states if row is not None}


def _state(rows: list[Row]) -> Row | None:
    """Return the state of a source from its rows in the order of time, None if it was never converted."""
    stamped = [row for row in rows if row.stamp]
    if not stamped:
        return None
    best = max((row for row in stamped if row.stamp == stamped[-1].stamp), key=_rank)
    is_skipped = rows[-1].verdict is Verdict.skipped and best.verdict is not Verdict.failed
    return msgspec.structs.replace(best, verdict=Verdict.skipped) if is_skipped else best


def _rank(row: Row) -> tuple[bool, int, int, str]:
    proof = row.proof
    strength = 0 if proof is None else 1 + (proof.reference == "gluon")
    return row.verdict is not Verdict.failed, strength, len(proof.errors) if proof else 0, row.finished
