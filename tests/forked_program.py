"""Run a program as Python runs a script, in a fork; imports little, because every fork imports it."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LOADER = "loaded_mxnet"  # next to this file; the server imports it before it is forked


def run(
    arguments: list[str],
    log: str,
    environment: dict[str, str],
    stdin: Connection[Any, Any],
    stdout: Connection[Any, Any] | None,
) -> None:
    """Run a program with its output in a log.

    Args:
        arguments: the script and its arguments.
        log: the file for its output.
        environment: environment variables in addition to those of the server.
        stdin: the standard input.
        stdout: the standard output, None if it goes to the log.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    standard = stdin.fileno(), stdout.fileno() if stdout else output, output
    for descriptor, source in enumerate(standard):
        os.dup2(source, descriptor)
    if LOADER not in sys.modules:
        raise ImportError(f"the forked process has not imported {LOADER}")
    os.environ.update(environment)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")
