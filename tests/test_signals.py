"""Signals at any moment: the shell's exit status, no traceback, no temporary files, no child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faults
import pytest

from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

MODEL = "gluon_resnet18_v1b"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
POINTS = 30
PROGRAM = [sys.executable, "-P", "-m", "converter"]


@pytest.fixture
def call(in_memory: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command, sends it signals after delays and returns status and output.

    The first signal is sent when ``ready`` exists, by default when the command has started.
    """
    (in_memory / "temporary").mkdir()
    output = in_memory / "said"

    def run(
        *arguments: str, signals: list[tuple[float, signal.Signals]], ready: Path = output
    ) -> tuple[int, str]:
        output.unlink(missing_ok=True)
        process = faults.start(faults.command, arguments, in_memory / "temporary", output)
        wait_for(lambda: output.exists() and ready.exists())
        for seconds, number in signals:
            time.sleep(seconds)
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)
        status = faults.finish(process)
        return status, output.read_text()

    return run


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def alive(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    completed = subprocess.run(
        ["/bin/ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return completed.stdout.strip()[:1] not in {"", "Z"}


def test_signals_during_a_conversion_end_it_cleanly(
    call: Callable[..., tuple[int, str]], in_memory: Path
) -> None:
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--reference", "none"]
    call(*arguments, signals=[])  # a warm-up, in which the fork server starts
    begin = time.monotonic()
    assert call(*arguments, signals=[])[0] == 0
    duration = time.monotonic() - begin
    statuses = []
    for point in range(POINTS):
        number = SIGNALS[point % len(SIGNALS)]
        status, output = call(*arguments, signals=[(point / POINTS * duration, number)])
        statuses.append(status)
        assert status in {0, 128 + number}, output
        assert "Traceback" not in output
        assert not faults.defects(in_memory / "out")
        assert not list((in_memory / "out").glob(".*"))
        assert not faults.contents(in_memory / "temporary")
    assert sum(map(bool, statuses)) >= POINTS // 4  # otherwise the signals came too late


@pytest.mark.parametrize("make", [disk.temporary, disk.temporary_folder])
def test_interruption_at_any_opcode_leaves_no_temporary_files(
    make: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    def interrupted(step: int) -> bool:
        """Create and remove a temporary path, interrupted at a step; return whether it was reached."""
        left = step

        def interrupt(frame: FrameType, _event: str, _: object) -> Callable[..., Any] | None:
            nonlocal left
            if Path(frame.f_code.co_filename).name not in {"disk.py", "locks.py", "contextlib.py"}:
                return None
            frame.f_trace_opcodes = True
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        try:
            with make(tmp_path / "new/out"):
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    steps, leftovers = 0, 0
    while interrupted(steps + 1):
        steps += 1
        leftovers += bool(faults.contents(tmp_path))
        disk.remove_temporary()
        assert not faults.contents(tmp_path)
    assert steps > 500
    assert leftovers  # otherwise there was nothing to remove


@pytest.mark.parametrize("number", SIGNALS)
def test_further_signals_do_not_disturb_the_cleanup(
    call: Callable[..., tuple[int, str]], in_memory: Path, number: signal.Signals
) -> None:
    sleeper = in_memory / "sleeper"  # ends when its stdin is closed, like GluonCV's process
    sleeper.write_text(f"#!/bin/sh\necho $$ >{in_memory}/child\nexec cat\n")
    sleeper.chmod(0o755)
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--gluon-python", str(sleeper)]
    signals = [(0.0, number), *[(0.001, signal.SIGINT)] * 3]
    status, output = call(*arguments, signals=signals, ready=in_memory / "child")
    assert status in {128 + number, 130}  # of two pending signals, the lower number is delivered first
    assert output == "interrupted\n"
    assert not faults.contents(in_memory / "temporary")
    assert not (in_memory / "out").exists()
    wait_for(lambda: not alive(int((in_memory / "child").read_text())))


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_signal_during_imports_exits_silently(seconds: float) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "  # the parent process may ignore it
        "import converter.__main__ as m; m._begin(); print(flush=True); m.gluon2torch()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate()
    assert (process.returncode, output) == (130, "")


def test_ignored_signal_stays_ignored(in_memory: Path) -> None:
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--reference", "none"]
    program = ["nohup", *PROGRAM, *arguments]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(in_memory.glob("out/.convert-*")))
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert not faults.defects(in_memory / "out")
