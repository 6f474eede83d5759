"""Time and memory of converting the 334 MB model beside the floor: whole processes, in turn, in one run.

conversion.py [ROUNDS]. Medians over the rounds; ratios are taken round by round, for machines drift. Memory
is the peak of the largest process, as the system accounts for it (Linux, macOS).
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODEL = "gluon_resnext101_64x4d"
ROUNDS = 5
MEGABYTE = 1_000_000
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """One process: seconds from start to end, and peak resident bytes."""

    seconds: float
    memory: int


def main(rounds: int) -> None:
    """Measure, and print a table and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.params")
        # In a process of its own: a child's accounted memory begins at its parent's.
        subprocess.run([sys.executable, __file__, "--write", source], check=True)
        programs = commands(source, folder)
        for command in programs.values():  # once uncounted: byte code, the system's file cache
            measure(command)
        measured = [[measure(command) for command in programs.values()] for _ in range(rounds)]
    columns = dict(zip(programs, zip(*measured, strict=True), strict=True))
    report(columns, rounds)


def write_source(path: Path) -> None:
    """Write seeded parameters to convert."""
    from converter.files.params import write_params  # noqa: PLC0415 - as above
    from converter.models import catalog, synthetic  # noqa: PLC0415 - keep the measuring process small

    model = catalog.find(MODEL)
    with path.open("wb") as stream:
        write_params(stream, synthetic.random_params(model.mapping, model.shapes, seed=0))


def commands(source: Path, folder: str) -> dict[str, list[str]]:
    """Return what is measured, by the name it has in the table."""

    def convert(reference: str) -> list[str]:
        out = f"{folder}/{reference}"  # of its own: a proof there is not replaced by a run without one
        options = ["--params", str(source), "--reference", reference]
        return [sys.executable, "-m", "converter", "convert", MODEL, out, *options]

    floor = [sys.executable, str(Path(__file__).with_name("floor.py")), str(source), f"{folder}/copy"]
    return {
        "interpreter start": [sys.executable, "-c", ""],
        "floor: read + SHA-1 + copy + SHA-256": floor,
        "convert --reference none": convert("none"),
        "convert, proven against numpy": convert("numpy"),
        "convert, proven against GluonCV": convert("gluon"),
    }


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


def report(columns: dict[str, tuple[Measured, ...]], rounds: int) -> None:
    """Print medians, and how much longer than the floor each took, the interpreter's start not counted."""
    start, floor, *_ = columns.values()
    table = Table(title=f"{MODEL}, median of {rounds}", caption=machine())
    table.add_column("")
    for heading in ("seconds", "min", "max", "peak MB", "× floor"):
        table.add_column(heading, justify="right")
    for label, runs in columns.items():
        seconds = [run.seconds for run in runs]
        ratios = [
            (run.seconds - begin.seconds) / (least.seconds - begin.seconds)
            for run, least, begin in zip(runs, floor, start, strict=True)
        ]
        table.add_row(
            label,
            f"{statistics.median(seconds):.2f}",
            f"{min(seconds):.2f}",
            f"{max(seconds):.2f}",
            f"{statistics.median(run.memory for run in runs) / MEGABYTE:.0f}",
            f"{statistics.median(ratios):.2f}" if runs is not start else "",
        )
    Console(width=110).print(table)


def machine() -> str:
    """Return what the figures were measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_source(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
