"""A reader in a process that may map little more memory than its file.

``python -m fuzz.confined SECONDS TARGET FILE…`` prints a line per file: its outcome and its name.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import tempfile
import traceback
from pathlib import Path

from fuzz.controls import CONTROLS
from fuzz.targets import TARGETS, attempt

HEADROOM = 64 << 20  # bytes: as much as a small archive may unpack to, and two threads' stacks
MULTIPLE = 32  # times the file's size; Python's objects for the smallest JSON, ``[],[],…``, take 25


def confine(size: int) -> None:
    """Limit this process to ``size`` bytes of memory beyond what is mapped now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))


def main(seconds: str, name: str, *files: str) -> None:
    """Try the files in turn; one that takes too long ends the process with a traceback."""
    target = {**TARGETS, **CONTROLS}[name]
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as folder:
        for content in target.seeds():  # triggers late imports
            attempt(target, content, Path(warm))
        for file in map(Path, files):
            content = file.read_bytes()
            faulthandler.dump_traceback_later(float(seconds), exit=True)
            confine(HEADROOM + MULTIPLE * len(content))
            try:
                outcome = "read" if attempt(target, content, Path(folder)) else "refused"
            except Exception as error:  # noqa: BLE001 - any exception is an outcome
                outcome = type(error).__name__
                traceback.print_exc()
            faulthandler.cancel_dump_traceback_later()
            print(outcome, file.name, flush=True)  # noqa: T201 - for the parent process


if __name__ == "__main__":
    main(*sys.argv[1:])
