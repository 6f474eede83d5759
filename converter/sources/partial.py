"""Partial downloads: the bytes received, and a note from which another run can resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from pathlib import Path


class ResumeInfo(msgspec.Struct, frozen=True):
    """Identifies the remote file that a partial download belongs to.

    Attributes:
        validator: the strong ETag of the content, or else its date.
        total: the size of the content in bytes.
    """

    validator: Annotated[str, msgspec.Meta(pattern="^[ -~]+$")]
    total: Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """The first bytes of a file.

    Attributes:
        path: the file of the bytes.
        lasting: whether the file is kept for other runs.
    """

    path: Path
    lasting: bool = True

    @property
    def note(self) -> Path:
        """The path of the note."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """The number of bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    def resume_info(self) -> ResumeInfo | None:
        """Return the note if the download can be resumed, else None."""
        try:
            note = msgspec.json.decode(self.note.read_bytes(), type=ResumeInfo)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return note if 0 < self.size <= note.total else None

    def restart(self, info: ResumeInfo | None) -> None:
        """Start over: delete the received bytes, then write the new note."""
        self.path.write_bytes(b"")
        if info is None:
            self.note.unlink(missing_ok=True)
        else:
            self.note.write_bytes(msgspec.json.encode(info))

    def drop(self) -> None:
        """Delete the bytes and the note."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
