"""A reader in a process that may map little more than its file.

``python -m fuzz.confined SECONDS TARGET FILE…``. For each file a line: what became of it, and its name.
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
MULTIPLE = 32  # of the file; Python's objects for the smallest JSON, ``[],[],…``, take 25


def confine(size: int) -> None:
    """Let this process map no more than ``size`` bytes beside what it has mapped already."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))


def main(seconds: str, name: str, *files: str) -> None:
    """Try the files one after another; one that takes longer ends the process with a traceback."""
    target = {**TARGETS, **CONTROLS}[name]
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as folder:
        for content in target.seeds():  # so that what is imported late is there
            attempt(target, content, Path(warm))
        for file in map(Path, files):
            content = file.read_bytes()
            faulthandler.dump_traceback_later(float(seconds), exit=True)
            confine(HEADROOM + MULTIPLE * len(content))
            try:
                outcome = "read" if attempt(target, content, Path(folder)) else "refused"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
                outcome = type(error).__name__
                traceback.print_exc()
            faulthandler.cancel_dump_traceback_later()
            print(outcome, file.name, flush=True)  # noqa: T201 - to whoever started it


if __name__ == "__main__":
    main(*sys.argv[1:])
