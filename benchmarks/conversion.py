"""Measure time and memory of converting a 334 MB model, compared with the floor: conversion.py [--rounds N].

The floor is the minimum work: reading, hashing and copying. Whole processes take turns in each round. Figures
are medians; ratios are computed per round, because machines drift. Memory is the peak of the largest process,
as the system reports it (Linux, macOS).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from processes import MEGABYTE, in_turn
from tables import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes import Columns, Measured

MODEL = "gluon_resnext101_64x4d"
ROUNDS = 5
START, TORCH = "interpreter start", "`import torch`"
FLOOR, THREADED = "floor: read + SHA-1 + copy + SHA-256", "floor in threads: the same, then fsync"
UNPROVEN, PROVEN = "`convert --reference none`", "`convert`, proven against numpy"


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds")
    parser.add_argument("--write", type=Path, metavar="FILE", help="only write the parameters to convert")
    chosen = parser.parse_args()
    if chosen.write:
        write_source(chosen.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.params")
        # In a separate process: a child's peak memory starts at its parent's.
        subprocess.run([sys.executable, __file__, "--write", source], check=True)
        sys.stdout.write(report(in_turn(commands(source, folder), chosen.rounds)))


def write_source(path: Path) -> None:
    """Write seeded random parameters to convert."""
    from converter.formats.params import write_params  # noqa: PLC0415 - as above
    from converter.networks import catalog, synthetic  # noqa: PLC0415 - keep the measuring process small

    model = catalog.find(MODEL)
    with path.open("wb") as stream:
        write_params(stream, synthetic.random_params(model.mapping, model.shapes, seed=0))


def commands(source: Path, folder: str) -> dict[str, list[str]]:
    """Return the command lines to measure, by their names in the table."""

    def convert(reference: str) -> list[str]:
        out = f"{folder}/{reference}"  # separate: a proof is not replaced by a run without one
        options = ["--params", str(source), "--reference", reference]
        return [sys.executable, "-m", "converter", "convert", MODEL, out, *options]

    floor = [sys.executable, str(Path(__file__).with_name("floor.py")), str(source), f"{folder}/copy"]
    return {
        START: [sys.executable, "-c", ""],
        FLOOR: floor,
        THREADED: [*floor, "--parallel"],
        TORCH: [sys.executable, "-c", "import torch"],
        UNPROVEN: convert("none"),
        PROVEN: convert("numpy"),
        "`convert`, proven against GluonCV": convert("gluon"),
    }


def report(columns: Columns) -> str:
    """Return a table of medians, with the ratios to the floors without the interpreter's start."""
    start = columns[START]
    rows = []
    for label, runs in columns.items():
        seconds = [run.seconds for run in runs]
        figures = [f"{figure:.2f}" for figure in (median(seconds), min(seconds), max(seconds))]
        memory = f"{median(run.memory for run in runs) / MEGABYTE:.0f}"
        compared = label not in {START, TORCH}
        floors = (columns[FLOOR], columns[THREADED])
        ratios = [f"{_ratio(runs, floor, start):.2f}" if compared else "" for floor in floors]
        rows.append((label, *figures, memory, *ratios))
    title = f"Conversion: {MODEL}, 334 MB, medians of {len(start)} rounds"
    table = markdown(title, ("seconds", "min", "max", "peak MB", "× floor", "× floor in threads"), rows)
    steps = zip(columns[PROVEN], columns[UNPROVEN], columns[TORCH], start, strict=True)
    both = median(
        proven.seconds / (unproven.seconds + torch.seconds - begin.seconds)
        for proven, unproven, torch, begin in steps
    )
    without = f"{UNPROVEN} and {TORCH} together"
    return f"{table}\n`convert` with its proof takes {both:.2f} × {without}.\n"


def _ratio(runs: Sequence[Measured], floor: Sequence[Measured], start: Sequence[Measured]) -> float:
    """Return the median ratio of two programs' seconds, both without those of the interpreter's start."""
    return median(
        (run.seconds - begin.seconds) / (least.seconds - begin.seconds)
        for run, least, begin in zip(runs, floor, start, strict=True)
    )


if __name__ == "__main__":
    main()
