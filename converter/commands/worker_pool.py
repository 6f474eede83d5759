"""Processes that run the conversions of a batch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from converter.commands import worker

if TYPE_CHECKING:
    from converter.commands.conversion import ConversionRequest
    from converter.manifests.schema import Manifest


@dataclass(frozen=True, slots=True)
class _Worker:
    """A pool of one process, and the process's id once it has started."""

    pool: ProcessPoolExecutor
    pid: Future[int]


class WorkerPool:
    """Processes that convert, one pool for each job: a crash fails one conversion, not all."""

    def __init__(self, jobs: int) -> None:
        self._threads = max(1, cores() // jobs) if jobs > 1 else None
        self._all: list[_Worker] = []
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._stack = contextlib.ExitStack()
        for _ in range(jobs):
            self._idle.put(self._start())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> _Worker:
        pool = self._stack.enter_context(
            ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),  # a fork would inherit torch's threads
                initializer=worker.prepare,
                initargs=(self._threads,),
            )
        )
        self._all.append(_Worker(pool, pool.submit(os.getpid)))
        return self._all[-1]

    def convert(self, request: ConversionRequest) -> Manifest:
        """Run a conversion in a process.

        Raises:
            BrokenProcessPool: if the process ends before the conversion.
            ConversionError: if the conversion fails.
        """
        chosen = self._idle.get()
        try:
            return chosen.pool.submit(worker.convert, request).result()
        except BrokenProcessPool:
            chosen = self._start()
            raise
        finally:
            self._idle.put(chosen)

    def terminate(self) -> None:
        """Interrupt the running conversions, which then remove their temporary files."""
        for each in self._all:
            if each.pid.done() and each.pid.exception() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid.result(), signal.SIGTERM)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
