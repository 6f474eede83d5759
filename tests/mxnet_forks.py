"""Programs that use MXNet, run in forks of one process that has imported it.

An import takes three seconds, and the tests run two hundred programs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import forked_program
import pytest

from converter.references import child_process
from converter.references.child_process import LOG, ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

FORKS = multiprocessing.get_context("forkserver")
START = child_process.start


def start_server() -> None:
    """Start the process that imports MXNet and is forked from now on."""
    FORKS.set_forkserver_preload([forked_program.LOADER, forked_program.__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


@dataclass(frozen=True, slots=True)
class Fork:
    """A running program, with the methods of ``Popen`` that are needed.

    Attributes:
        process: the fork.
        stdin: the other end of the program's standard input.
        stdout: its standard output, None if that goes to the log.
    """

    process: ForkServerProcess
    stdin: Connection[Any, Any]
    stdout: BinaryIO | None

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0.0)
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.stdin.close()
        if self.stdout:
            self.stdout.close()


def start(arguments: list[str], log: Path, environment: Mapping[str, str], *, streamed: bool = False) -> Fork:
    """Start a program, as ``python *arguments``, in a fork.

    Args:
        arguments: the script and its arguments.
        log: the file for its output.
        environment: environment variables in addition to those of the server.
        streamed: whether its standard output can be read.
    """
    stdin, other_stdin = FORKS.Pipe(duplex=False)
    other_stdout, stdout = FORKS.Pipe(duplex=False) if streamed else (None, None)
    process = FORKS.Process(
        target=forked_program.run, args=(arguments, str(log), {**environment}, stdin, stdout), daemon=True
    )
    process.start()
    stdin.close()
    if stdout is None or other_stdout is None:
        return Fork(process, other_stdin, None)
    stdout.close()
    with other_stdout:
        return Fork(process, other_stdin, os.fdopen(os.dup(other_stdout.fileno()), "rb"))


def status(*arguments: object) -> int:
    """Run a program and return its exit status; its output appears only if pytest shows the test's."""
    with tempfile.NamedTemporaryFile() as log:
        result = start([*map(str, arguments)], Path(log.name), {}).wait()
        sys.stderr.write(log.read().decode(errors="replace"))
    return result


def run(*arguments: object) -> None:
    """Run a program.

    Raises:
        CalledProcessError: if it fails.
    """
    if result := status(*arguments):
        raise subprocess.CalledProcessError(result, [*map(str, arguments)])


@contextlib.contextmanager
def start_child(
    python: Path,
    script: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    streamed: bool = False,
) -> Iterator[ChildProcess]:
    """Do what ``child_process.start`` does, in a fork if the interpreter is ours."""
    if python != Path(sys.executable):
        with START(python, script, folder, environment, streamed=streamed) as child:
            yield child
        return
    fork = start([str(script), str(folder)], folder / LOG, environment or {}, streamed=streamed)
    try:
        yield ChildProcess(cast("subprocess.Popen[bytes]", fork), folder)
    finally:
        fork.kill()
