"""Real signals during a run: exit status 128 + number, no traceback, no temporary files, no child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import faults
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

MODEL = "gluon_cifar_resnext29_32x4d"  # the smallest file
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
POINTS = 21
PROGRAM = [sys.executable, "-P", "-m", "converter"]


@pytest.fixture
def call(in_memory: Path) -> Callable[..., tuple[int, str]]:
    """Call the command and send it signals, each so many seconds later; return its exit status and words.

    The first is not sent before ``ready`` is there; without it not before the command begins.
    """
    (in_memory / "temporary").mkdir()
    said = in_memory / "said"

    def run(*arguments: str, sent: list[tuple[float, signal.Signals]], ready: Path = said) -> tuple[int, str]:
        said.unlink(missing_ok=True)
        process = faults.start(faults.command, arguments, in_memory / "temporary", said)
        wait_for(lambda: said.exists() and ready.exists())
        for seconds, number in sent:
            time.sleep(seconds)
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)
        status = faults.finish(process)
        return status, said.read_text()

    return run


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def alive(process: int) -> bool:
    """Return whether a process runs; one that is dead may be there until somebody asks how it ended."""
    found = subprocess.run(
        ["/bin/ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()[:1] not in {"", "Z"}


def test_signals_during_a_conversion_end_it_cleanly(
    call: Callable[..., tuple[int, str]], in_memory: Path
) -> None:
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--reference", "none"]
    call(*arguments, sent=[])  # once before it counts: what the others fork from must start
    begin = time.monotonic()
    assert call(*arguments, sent=[])[0] == 0
    whole = time.monotonic() - begin
    statuses = []
    for point in range(POINTS):
        number = SIGNALS[point % len(SIGNALS)]
        status, said = call(*arguments, sent=[(point / POINTS * whole, number)])
        statuses.append(status)
        assert status in {0, 128 + number}, said
        assert "Traceback" not in said
        assert not faults.defects(in_memory / "out")
        assert not list((in_memory / "out").glob(".*"))
        assert not faults.contents(in_memory / "temporary")
    assert sum(map(bool, statuses)) >= POINTS // 4  # else the signals came too late


@pytest.mark.parametrize("number", SIGNALS)
def test_further_signals_do_not_disturb_the_cleanup(
    call: Callable[..., tuple[int, str]], in_memory: Path, number: signal.Signals
) -> None:
    sleeper = in_memory / "sleeper"  # which goes, as GluonCV's process does, when its stdin ends
    sleeper.write_text(f"#!/bin/sh\necho $$ >{in_memory}/child\nexec cat\n")
    sleeper.chmod(0o755)
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--gluon-python", str(sleeper)]
    sent = [(0.0, number), *[(0.001, signal.SIGINT)] * 3]
    status, said = call(*arguments, sent=sent, ready=in_memory / "child")
    assert status in {128 + number, 130}  # where both come before either is heard, the lower number is first
    assert said == "interrupted\n"
    assert not faults.contents(in_memory / "temporary")
    assert not (in_memory / "out").exists()
    wait_for(lambda: not alive(int((in_memory / "child").read_text())))


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_signal_during_imports_exits_silently(seconds: float) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "  # whoever runs us may ignore it
        "import converter.__main__ as m; m.signals.exit_at_once(); print(flush=True); m.gluon2torch()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert (process.returncode, said) == (130, "")


def test_ignored_signal_stays_ignored(in_memory: Path) -> None:
    arguments = ["convert", MODEL, str(in_memory / "out"), "--random", "0", "--reference", "none"]
    program = ["nohup", *PROGRAM, *arguments]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(in_memory.glob("out/.convert-*")))
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert not faults.defects(in_memory / "out")
