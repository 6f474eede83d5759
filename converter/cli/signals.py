"""Signal handling: exit at once if no command is running, clean up first if one is."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SIGNALLED = 128  # plus the signal's number: the exit status that shells report


def exit_at_once() -> None:
    """Make signals end the process at once and silently, except within ``interrupting``."""
    _handle(_exit)


class Interruption(BaseException):
    """A signal, whose number is the argument.

    Not a ``KeyboardInterrupt``: if one is raised while an extension module is imported, CPython ends the
    process by SIGINT when it exits, even if the exception was handled.
    """


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Raise ``Interruption`` with the first signal's number, and ignore further signals.

    Signals that are ignored already, such as SIGHUP under nohup, stay ignored. After an interruption,
    further signals do not end the process at once, so that it can clean up when it exits.
    """
    previous = {number: signal.getsignal(number) for number in ENDING}
    _handle(_interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            interrupted = signal.getsignal(number) is _ignore
            if not (interrupted and handler is _exit):
                signal.signal(number, handler)


def _exit(number: int, _: object) -> NoReturn:
    os._exit(SIGNALLED + number)


def _interrupt(number: int, _: object) -> NoReturn:
    _handle(_ignore)
    raise Interruption(number)


def _ignore(*_: object) -> None:
    """Do nothing; with SIG_IGN, Python would report an error for a signal that is already pending."""


def _handle(handler: Callable[[int, object], object]) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
