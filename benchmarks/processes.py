"""Whole processes, timed in turn: seconds from start to end, and the peak of the largest one's memory."""

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
    """One process: seconds from start to end, and peak resident bytes, as the system accounts for it."""

    seconds: float
    memory: int


def in_turn(programs: dict[str, list[str]], rounds: int) -> Columns:
    """Run all programs in every round, for machines drift; return each one's runs by its name."""
    for command in programs.values():  # once uncounted: byte code, the system's file cache
        measure(command)
    measured = [[measure(command) for command in programs.values()] for _ in range(rounds)]
    return dict(zip(programs, zip(*measured, strict=True), strict=True))


def measure(command: list[str]) -> Measured:
    """Run a command to its end.

    Errors: ``CalledProcessError`` where it fails, for its time would mean nothing.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds, usage.ru_maxrss * MAXRSS_BYTES)
