"""A process that runs tasks one after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

from converter.errors import ProcessesError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

R = TypeVar("R")
GRACE_SECONDS = 5  # for a task whose parent was killed


def prepare() -> None:
    """Leave Ctrl-C to the parent process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed, which leaves it waiting for tasks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # interrupts a task, which removes its temporary files
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def run(function: Callable[..., R], *arguments: Any, **keywords: Any) -> R:  # noqa: ANN401 - of any function
    """Call a function; SIGTERM interrupts it, so that it removes its temporary files.

    Raises:
        ProcessesError: after SIGTERM.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return function(*arguments, **keywords)
    except KeyboardInterrupt as error:
        raise ProcessesError("its process was terminated") from error
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
