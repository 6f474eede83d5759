"""Do the minimum work of a conversion: read, SHA-1, copy and SHA-256 in one pass.

floor.py SOURCE DESTINATION [--parallel]. With --parallel, three threads hash and copy, and the copy is
flushed to the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

CHUNK = 1 << 20
AHEAD = 16  # chunks that wait for a thread


def run(source: Path, destination: Path, *, parallel: bool) -> None:
    """Copy a file and hash it twice."""
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    with source.open("rb") as reader, destination.open("wb") as writer:
        work = (sha1.update, sha256.update, writer.write)
        if not parallel:
            while chunk := reader.read(CHUNK):
                for step in work:
                    step(chunk)
            return
        with contextlib.ExitStack() as stack:
            threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in work]
            waiting: deque[list[Future[object]]] = deque()
            while chunk := reader.read(CHUNK):
                waiting.append(
                    [thread.submit(step, chunk) for thread, step in zip(threads, work, strict=True)]
                )
                if len(waiting) > AHEAD:
                    wait(waiting.popleft())
            for futures in waiting:
                wait(futures)
        writer.flush()
        os.fsync(writer.fileno())


def wait(futures: list[Future[object]]) -> None:
    """Wait for the work on a chunk; what it raised is raised here."""
    for future in futures:
        future.result()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), parallel="--parallel" in sys.argv)
