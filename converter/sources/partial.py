"""A download that is not whole yet: the bytes that came, and beside them what lets another run go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class ResumeInfo(msgspec.Struct, frozen=True):
    """Which content was begun: a server that has another by now must not go on with it.

    ``validator`` is its strong ETag or else its date, ``total`` its size in bytes.
    """

    url: str
    validator: Annotated[str, msgspec.Meta(pattern="^[ -~]+$")]
    total: Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """The first bytes of a file, at ``path``; ``lasting`` where another run will find them."""

    path: Path
    lasting: bool = True

    @property
    def note(self) -> Path:
        """Where it is written what they are the first bytes of."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def known(self, url: str) -> ResumeInfo | None:
        """Return what is known of bytes that came from there; None where they cannot be gone on with."""
        try:
            found = msgspec.json.decode(self.note.read_bytes(), type=ResumeInfo)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if found.url == url and 0 < self.size <= found.total else None

    def restart(self, known: ResumeInfo | None) -> None:
        """Begin a new content; the old bytes go before anything is said of the new ones."""
        self.path.write_bytes(b"")
        if known is None:
            self.note.unlink(missing_ok=True)
        else:
            self.note.write_bytes(msgspec.json.encode(known))

    def drop(self) -> None:
        """Leave nothing."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
