"""Run a script with another Python interpreter that has MXNet, and read its reply."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import msgspec

from converter.errors import ReferenceFailedError, ReferenceUnavailableError
from converter.storage import background, disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

LOG, REPLY = "log.txt", "reply.json"
MIN_FREE_BYTES = 1 << 16  # with fewer, the disk counts as full
PATIENCE_SECONDS = 1800  # without a new output; the slowest layer takes a minute, at 2048 px in float64
POLL_SECONDS = 0.2  # between two looks at the outputs
LOG_CHARACTERS = 2000  # of the end of the child's log, in an error


def ignore(_outputs: int) -> None:
    """Ignore the number of outputs."""


class Reply(Protocol):
    """The reply of a script."""

    @property
    def unavailable(self) -> str:
        """The reason why MXNet cannot be imported, "" if it can."""


R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A running child process.

    Attributes:
        process: the process.
        folder: the temporary folder of its inputs and outputs.
    """

    process: subprocess.Popen[bytes]
    folder: Path

    def reply(self, kind: type[R], on_outputs: Callable[[int], None] = ignore) -> R:
        """Wait for the child and return its reply.

        Args:
            kind: the type of the reply.
            on_outputs: called with the number of outputs in the folder when there are more.

        Raises:
            ReferenceUnavailableError: if MXNet cannot be imported.
            ReferenceFailedError: if the child fails, stops making progress, or returns an invalid reply.
        """
        status = self._wait(on_outputs)
        try:
            reply = msgspec.json.decode((self.folder / REPLY).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError) as error:
            raise self.failure() from error
        if reply.unavailable:
            raise unavailable(reply.unavailable)
        if status != 0:
            raise _failed(f"its process ended with status {status}")
        return reply

    def read(self, count: int | None = None) -> bytearray:
        """Return the next line of the child's standard output, or a number of bytes; less at its end.

        Raises:
            ReferenceFailedError: if they do not arrive within ``PATIENCE_SECONDS``.
        """
        stream = cast("BufferedReader", self.process.stdout)
        arrived: SimpleQueue[None] = SimpleQueue()

        def kill_if_late() -> bool:
            try:
                arrived.get(timeout=PATIENCE_SECONDS)
            except Empty:
                self.process.kill()
                return True
            return False

        late = background.start(kill_if_late)
        try:
            if count is None:
                content = bytearray(stream.readline())
            else:
                content = bytearray(count)  # read into: never a second copy
                del content[stream.readinto(content) :]
        finally:
            arrived.put(None)
        if late.result():
            raise _too_slow()
        return content

    def failure(self) -> ReferenceFailedError:
        """Return the error of a child without a valid reply: a full disk, or the end of its log."""
        if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:  # then the log is incomplete too
            return ReferenceFailedError(f"{self.folder}: the disk is full: no space for GluonCV's outputs")
        log = (self.folder / LOG).read_text(errors="replace")[-LOG_CHARACTERS:]
        status = self.process.returncode
        return _failed(f"its process ended with status {status} and printed:\n{log or '(nothing)'}")

    def _wait(self, on_outputs: Callable[[int], None]) -> int:
        """Return the child's exit status; the run time is unlimited while new outputs appear.

        Raises:
            ReferenceFailedError: if no output appears for ``PATIENCE_SECONDS``.
        """
        outputs, since = -1, time.monotonic()
        while True:
            try:
                return self.process.wait(min(POLL_SECONDS, PATIENCE_SECONDS))
            except subprocess.TimeoutExpired:
                before, outputs = outputs, len(list(self.folder.glob("[0-9]*.npy")))
            if outputs > before:
                since = time.monotonic()
                on_outputs(outputs)
            elif time.monotonic() - since >= PATIENCE_SECONDS:
                raise _too_slow()


@contextlib.contextmanager
def start(
    python: Path,
    script: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    streamed: bool = False,
) -> Iterator[ChildProcess]:
    """Start a script on the request in a folder; on exit the child is killed.

    Args:
        python: an interpreter with MXNet and GluonCV.
        script: the script.
        folder: the folder, which is the script's argument.
        environment: environment variables in addition to ours.
        streamed: whether its standard output can be read; otherwise it goes to the log.

    Raises:
        ReferenceUnavailableError: if the interpreter cannot be started.
    """
    # These old packages would fail if the user turns warnings into errors.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    with disk.writing(folder):
        log = (folder / LOG).open("wb")
    with log, _wrap_start_error(python):
        process = subprocess.Popen(  # noqa: S603 - the interpreter is the user's choice
            [python, script, folder],
            stdin=subprocess.PIPE,  # never written to: it closes when we die, and the child exits
            stdout=subprocess.PIPE if streamed else log,
            stderr=log,
            env={**inherited, **(environment or {})},
        )
    try:
        yield ChildProcess(process, folder)
    finally:
        process.kill()
        process.communicate()


def _too_slow() -> ReferenceFailedError:
    return _failed(f"it computed no output for {PATIENCE_SECONDS} seconds")


@contextlib.contextmanager
def _wrap_start_error(python: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(f"{python} cannot be started: {disk.os_reason(error)}") from error


def unavailable(reason: str) -> ReferenceUnavailableError:
    """Return the error that states why MXNet cannot be started, and the alternatives."""
    return ReferenceUnavailableError(_message(reason), reason)


def _failed(reason: str) -> ReferenceFailedError:
    """Return the error that states why a run of MXNet failed, and the alternatives."""
    return ReferenceFailedError(_message(reason), reason)


def _message(reason: str) -> str:
    return (
        f"no proof: the MXNet reference cannot run: {reason}\n"
        "You can:\n"
        "  --reference numpy           compare with the built-in NumPy reference, which needs no MXNet\n"
        "  the extra `gluon`           installs mxnet==1.9.1 and gluoncv==0.10.5.post0 on Linux, x86-64\n"
        "  --gluon-python PATH         use a Python that has them; also GLUON_PYTHON=PATH\n"
        "  convert --reference none    write the file without a proof, as its manifest then states"
    )
