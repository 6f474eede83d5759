"""Runs a function on many requests with an executor, a bounded number of them at a time."""

from __future__ import annotations

import contextlib
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from converter.errors import ConversionError, ProcessesError
from converter.fleet.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")


def ignore(_: object) -> None:
    """Do nothing."""


@contextlib.contextmanager
def local(jobs: int) -> Iterator[Processes]:
    """Provide processes on this machine, which an interruption ends with their tasks."""
    with Processes(jobs) as processes:
        try:
            yield processes
        except BaseException:
            processes.terminate()
            raise


def run(
    function: Callable[[T], R],
    requests: Iterable[T],
    executor: Executor,
    limit: int,
    on_start: Callable[[T], None] = ignore,
) -> Iterator[tuple[T, R | BaseException]]:
    """Yield each request with the function's result or exception, as they finish.

    Args:
        function: the function, which the executor can send to its workers.
        requests: its arguments; the next one is taken when another has finished.
        executor: what calls the function.
        limit: number of requests that are submitted and not finished.
        on_start: called with each request before it is submitted.

    Raises:
        ProcessesError: if the executor loses its tasks or accepts no more.
    """
    running: dict[Future[R], T] = {}
    try:
        for request in requests:
            on_start(request)
            running[_submit(executor, function, request)] = request
            if len(running) >= limit:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    finally:
        for future in running:
            future.cancel()


def _submit(executor: Executor, function: Callable[[T], R], request: T) -> Future[R]:
    try:
        return executor.submit(function, request)
    except (RuntimeError, OSError) as error:  # it was shut down, or its scheduler is gone
        raise _lost(error) from error


def _finished(running: dict[Future[R], T]) -> Iterator[tuple[T, R | BaseException]]:
    """Wait for at least one future, and yield those that are done.

    Raises:
        ProcessesError: if one was cancelled, which no task does.
    """
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        request = running.pop(future)
        if future.cancelled():
            raise _lost("it cancelled a task")
        error = future.exception()
        if isinstance(error, CancelledError):
            raise _lost(error)
        yield request, future.result() if error is None else error


def _lost(error: object) -> ProcessesError:
    reason = str(error) or type(error).__name__
    return ProcessesError(
        f"the executor lost its tasks: {reason}\n"
        "  What was finished is recorded. Run the same command again to convert the rest."
    )


def reason(error: BaseException) -> str:
    """Return why a task failed; of an unexpected error also its type."""
    if isinstance(error, BrokenProcessPool | BrokenExecutor):
        return "its process ended unexpectedly"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, ConversionError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"
