"""An executor of processes on this machine, of which a crash ends one task only."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from converter.fleet import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Worker:
    """A pool of one process, and the process's id once it has started."""

    pool: ProcessPoolExecutor
    pid: Future[int]


class Processes(Executor):
    """Processes that stay, each a pool of its own: a crash fails one task, not all.

    A process starts with its first task. Each keeps what it has imported and cached.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._threads = max(1, cores() // jobs) if jobs > 1 else None
        self._started: list[_Worker] = []
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(jobs):
            self._idle.put(None)
        self._callers = ThreadPoolExecutor(jobs)
        self._starting = threading.Lock()

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:  # noqa: ANN401 - Executor
        """Run a function in a process; the future raises ``BrokenProcessPool`` if the process ends first."""
        return self._callers.submit(self._run, fn, args, kwargs)

    def _run(self, function: Callable[..., R], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> R:
        chosen = self._idle.get()
        try:
            chosen = chosen or self._start()
            result: R = chosen.pool.submit(worker.run, function, *arguments, **keywords).result()
        except BrokenProcessPool:
            if chosen is not None:
                self._started.remove(chosen)  # its id can become another process's
            chosen = None
            raise
        else:
            return result
        finally:
            self._idle.put(chosen)

    def _start(self) -> _Worker:
        pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),  # a fork would inherit torch's threads
            initializer=worker.prepare,
        )
        with self._starting, _limited(self._threads):
            started = _Worker(pool, pool.submit(os.getpid))
        self._started.append(started)
        return started

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes after their tasks."""
        self._callers.shutdown(wait=wait, cancel_futures=cancel_futures)
        for each in self._started:
            each.pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """Cancel what waits and interrupt what runs, which then removes its temporary files."""
        self._callers.shutdown(wait=False, cancel_futures=True)
        for each in [*self._started]:
            each.pid.add_done_callback(_terminate)  # at once, or when it has started


@contextlib.contextmanager
def _limited(threads: int | None) -> Iterator[None]:
    """Limit the threads of numerical libraries in the processes started in this context; None for no limit.

    The libraries read these variables when they are imported, which a process may do before it runs our
    code: it imports the main program first. Variables that are set already are kept.
    """
    limits = {"OMP_WAIT_POLICY": "PASSIVE"}
    if threads is not None:
        limits |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    added = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _terminate(pid: Future[int]) -> None:
    if not pid.cancelled() and pid.exception() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid.result(), signal.SIGTERM)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
