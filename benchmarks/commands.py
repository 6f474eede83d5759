"""Measure the run time of other commands, as whole processes: commands.py [--rounds N]."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from processes import MEGABYTE, in_turn
from tables import markdown

MODEL = "gluon_resnet50_v1b"
ROUNDS = 5
LAYERS, ROWS, COLUMNS = 25, 1000, 10**6  # of the file of 100 GB
PROGRAM = "from converter.cli.app import convert_app; convert_app(prog_name='convert')"


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        huge = Path(folder, "huge.safetensors")
        write_huge(huge)
        columns = in_turn(commands(*prepared(Path(folder)), huge), rounds)
    rows = []
    for label, runs in columns.items():
        seconds = [run.seconds for run in runs]
        figures = [f"{figure:.2f}" for figure in (median(seconds), min(seconds), max(seconds))]
        rows.append((label, *figures, f"{median(run.memory for run in runs) / MEGABYTE:.0f}"))
    title = f"Commands, medians of {rounds} rounds"
    sys.stdout.write(markdown(title, ("seconds", "min", "max", "peak MB"), rows))


def prepared(folder: Path) -> tuple[Path, Path]:
    """Write a converted file and an image, and return their paths."""
    convert = [*gluon2torch("convert"), MODEL, str(folder / "out"), "--random", "0", "--reference", "none"]
    subprocess.run(convert, check=True, stdout=subprocess.DEVNULL)
    (weights,) = (folder / "out").glob("*.safetensors")
    image = folder / "noise.png"
    # In a separate process: a child's peak memory starts at its parent's.
    draw = "import sys; from PIL import Image; Image.effect_noise((500, 375), 64).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", draw, image], check=True)
    return weights, image


def write_huge(path: Path) -> None:
    """Write a safetensors file of 100 GB that takes no space on the disk."""
    size = 4 * ROWS * COLUMNS
    header = {
        f"layer{number}.weight": {
            "dtype": "F32",
            "shape": [ROWS, COLUMNS],
            "data_offsets": [number * size, (number + 1) * size],
        }
        for number in range(LAYERS)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + LAYERS * size)


def gluon2torch(*arguments: str) -> list[str]:
    """Return the command line of a subcommand, for this interpreter."""
    return [sys.executable, "-m", "converter", *arguments]


def commands(weights: Path, image: Path, huge: Path) -> dict[str, list[str]]:
    """Return the command lines to measure, by their names in the table."""
    return {
        "`convert --help`": [sys.executable, "-c", PROGRAM, "--help"],
        "`gluon2torch list`": gluon2torch("list"),
        "`inspect`, 102 MB": gluon2torch("inspect", str(weights)),
        "`inspect`, 100 GB of an unknown network": gluon2torch("inspect", str(huge)),
        f"`predict`, one image, {MODEL}": gluon2torch("predict", str(image), "--weights", str(weights)),
    }


if __name__ == "__main__":
    main()
