"""Background work: callers that need the result wait for it, others do not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from records import ENCODED

from converter.storage import background

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


def test_result_is_awaited() -> None:
    assert background.start(lambda: 3).result(10) == 3


def test_exception_is_raised_when_the_result_is_requested() -> None:
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: 1 // 0).result(10)


def test_waiting_can_be_limited() -> None:
    blocked: SimpleQueue[int] = SimpleQueue()
    call = background.start(blocked.get)
    with pytest.raises(TimeoutError):
        call.result(0.01)
    blocked.put(3)
    assert call.result(10) == 3


def test_worker_calls_in_order_and_is_awaited() -> None:
    called: list[int] = []

    def call_last() -> None:
        time.sleep(0.05)
        called.append(100)

    with background.Worker() as worker:
        for number in range(100):
            worker.submit(partial(called.append, number))
        assert worker.submit(lambda: len(called)).result(10) == 100
        worker.submit(call_last)
    assert called == list(range(101))


def test_worker_goes_on_after_an_exception() -> None:
    with background.Worker() as worker:
        failed, done = worker.submit(lambda: 1 // 0), worker.submit(lambda: 3)
        assert done.result(10) == 3
        with pytest.raises(ZeroDivisionError):
            failed.result(10)


class Interruption(Exception):  # noqa: N818 - no error
    """Raised by a signal's handler, as ``converter.cli.signals`` does."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer signals")
def test_exceptions_of_signal_handlers_leave_no_lock_acquired() -> None:
    interrupted = 0
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        for number in range(2000):
            with contextlib.suppress(Interruption), background.Worker() as worker:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (number % 200 + 1))
                try:
                    while True:
                        worker.submit(int).result()
                except Interruption:
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 1000


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interruption


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
def test_refusal_does_not_wait_for_the_hash_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large.params"
    path.write_bytes(ENCODED["V2"])
    os.truncate(path, 1 << 38)  # a size that takes minutes to hash
    command = [sys.executable, "-P", "-m", "converter", "convert", "auto", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--params", str(path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "bytes after the end of the list" in done.stderr
