"""How a signal ends the program: at once while nothing is begun, and in order while there is work."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SIGNALLED = 128  # and the signal: the exit status that shells give


def leave() -> None:
    """Let a signal end the process without a word, from now on and but for ``interrupting``."""
    _handle(lambda number, _: os._exit(SIGNALLED + number))


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Let the first signal raise ``KeyboardInterrupt`` with its number, and no other disturb the end.

    What is ignored, as SIGHUP under nohup, stays so.
    """
    previous = {number: signal.getsignal(number) for number in ENDING}
    _handle(_interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: object) -> NoReturn:
    _handle(_overhear)
    raise KeyboardInterrupt(number)


def _overhear(*_: object) -> None:
    """Do nothing: Python complains where a signal that has come already is to be ignored by then."""


def _handle(handler: Callable[[int, object], object]) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
