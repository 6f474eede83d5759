"""Do the minimum work of a conversion: read, SHA-1, copy and SHA-256 in one pass.

floor.py SOURCE DESTINATION [--parallel]. With --parallel, three threads hash and copy, and the copy is
flushed to the disk.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 20
AHEAD = 16  # chunks that wait for a thread


def run(source: Path, destination: Path, *, parallel: bool) -> None:
    """Copy a file and hash it twice."""
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    with source.open("rb") as reader, destination.open("wb") as writer:
        work = (sha1.update, sha256.update, writer.write)
        steps = [_Thread(step) for step in work] if parallel else [*work]
        while chunk := reader.read(CHUNK):
            for step in steps:
                step(chunk)
        if parallel:
            for step in steps:
                step(b"")
            writer.flush()
            os.fsync(writer.fileno())


class _Thread:
    """Calls a function with one chunk after another in a thread; an empty one ends it."""

    def __init__(self, function: Callable[[bytes], object]) -> None:
        self.function = function
        self.chunks: queue.Queue[bytes] = queue.Queue(AHEAD)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while chunk := self.chunks.get():
            self.function(chunk)

    def __call__(self, chunk: bytes) -> None:
        self.chunks.put(chunk)
        if not chunk:
            self.thread.join()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), parallel="--parallel" in sys.argv)
