"""Runs a function on many requests with an executor, a bounded number of them at a time."""

from __future__ import annotations

import contextlib
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from queue import SimpleQueue
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
    done: SimpleQueue[Future[R]] = SimpleQueue()  # an interruption leaves it intact, unlike `wait`'s locks
    try:
        for request in requests:
            on_start(request)
            future = _submit(executor, function, request)
            running[future] = request
            future.add_done_callback(done.put)
            if len(running) >= limit:
                finished = _result(running, done.get())
                yield finished
        while running:
            finished = _result(running, done.get())
            yield finished
    finally:
        for future in running:
            future.cancel()


def _submit(executor: Executor, function: Callable[[T], R], request: T) -> Future[R]:
    try:
        return executor.submit(function, request)
    except (RuntimeError, OSError) as error:  # it was shut down, or its scheduler is gone
        raise _lost(error) from error


def _result(running: dict[Future[R], T], future: Future[R]) -> tuple[T, R] | tuple[T, BaseException]:
    """Return the request of a future that is done, with its result or exception.

    Raises:
        ProcessesError: if it was cancelled, which no task does.
    """
    request = running.pop(future)
    if future.cancelled():
        raise _lost("it cancelled a task")
    error = future.exception()
    if isinstance(error, CancelledError):
        raise _lost(error)
    return (request, future.result()) if error is None else (request, error)


def _lost(error: object) -> ProcessesError:
    reason = str(error) or type(error).__name__
    return ProcessesError(
        f"the executor lost its tasks: {reason}\n"
        "  What was finished is recorded. Run the same command again to convert the rest."
    )


def reason(error: BaseException) -> str:
    """Return why a task failed; of an unexpected error also its type."""
    if isinstance(error, BrokenExecutor):
        return "its process ended unexpectedly"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, ConversionError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"
