"""Run functions in daemon threads, which do not delay the end of the program.

The handler of a signal may raise an exception anywhere in the main thread. The events and conditions of
``threading`` are written in Python: such an exception can leave their lock acquired, and another thread then
waits forever. Here the main thread starts a thread, or waits for one, by a single call of C code.
"""

from __future__ import annotations

import _thread
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Generic, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A function that another thread calls, once."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._running = Lock()
        self._running.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._done = False

    def run(self) -> None:
        """Call the function."""
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error
        self._done = True
        self._running.release()

    def wait(self, seconds: float = -1) -> bool:
        """Wait until the function has returned or raised, and return whether it has.

        Args:
            seconds: the longest time to wait; by default there is none.
        """
        if not self._done and self._running.acquire(timeout=seconds):
            self._running.release()  # for others that wait
        return self._done

    def result(self, seconds: float = -1) -> T:
        """Wait for the function, and return or raise what it did.

        Raises:
            TimeoutError: if it takes longer than so many seconds.
        """
        if not self.wait(seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


def start(function: Callable[[], T]) -> BackgroundCall[T]:
    """Call a function in a new thread."""
    call = BackgroundCall(function)
    _thread.start_new_thread(call.run, ())
    return call


def done(value: T) -> BackgroundCall[T]:
    """Return a call that has returned a value."""
    call = BackgroundCall(lambda: value)
    call.run()
    return call


class Worker:
    """A thread that calls functions one after the other; the end of the ``with`` block waits for them."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[BackgroundCall[object] | None] = SimpleQueue()
        self._thread = start(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)
        self._thread.wait()

    def submit(self, function: Callable[[], T]) -> BackgroundCall[T]:
        """Call a function after those that were submitted before."""
        call = BackgroundCall(function)
        self._calls.put(cast("BackgroundCall[object]", call))
        return call

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
