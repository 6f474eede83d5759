"""Measure the run time and peak memory of processes, which take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

MEGABYTE = 1_000_000
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024

Columns = dict[str, tuple["Measured", ...]]


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one run.

    Attributes:
        seconds: from the start of the process to its end.
        memory: peak resident memory in bytes, as the system reports it: the maximum over the process and
            its finished children.
    """

    seconds: float
    memory: int


def in_turn(programs: dict[str, list[str]], rounds: int) -> Columns:
    """Run all programs in each round, because machines drift, and return the runs by program name."""
    for command in programs.values():  # warm-up: byte code, the system's file cache
        measure(command)
    measured = [[measure(command) for command in programs.values()] for _ in range(rounds)]
    return dict(zip(programs, zip(*measured, strict=True), strict=True))


def measure(command: list[str]) -> Measured:
    """Run a command and measure it.

    Raises:
        CalledProcessError: if the command fails, because its run time is meaningless.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds, usage.ru_maxrss * MAXRSS_BYTES)
