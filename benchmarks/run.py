"""Run all benchmarks and format the results as one page: run.py [--write] [--quick].

The page is printed, or written to docs/benchmarks.md with --write. --quick only checks that the benchmarks
run: one round each, on small networks where possible.
"""

from __future__ import annotations

import argparse
import datetime as dt
import subprocess
import sys
from pathlib import Path

from tables import machine, versions

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/benchmarks.md"
PARTS = {  # by script, the options of a quick run
    "conversion.py": ("--rounds", "1"),
    "depth.py": ("--gigabytes", "0.4"),
    "commands.py": ("--rounds", "1"),
    "throughput.py": ("--quick",),
}
HEADING = """# Benchmarks

Measured on {date} by `nox -s bench -- --write`, which replaces this page.
{machine}; {versions}.

Processes and networks take turns within each round. Ratios are computed per round, because machines drift.
Seconds are for a whole process, including its start. Ratios to the floor exclude the interpreter's start.
Peak memory is that of the largest process. A proof also imports torch; against GluonCV, two processes run.
The first floor does not wait for the disk; a conversion and the floor in threads do. The proofs by size and
`inspect` of 100 GB read sparse files: they do not wait for the disk, and `inspect` reads only the header. The
larger networks are deeper, not wider, because memory grows with the largest layer.

"""


def main() -> None:
    """Run each benchmark in a separate process and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(HERE.parent)}")
    parser.add_argument("--quick", action="store_true", help="only check that the benchmarks run")
    chosen = parser.parse_args()
    commands = [
        [sys.executable, str(HERE / name), *(quick if chosen.quick else ())] for name, quick in PARTS.items()
    ]
    parts = [subprocess.check_output(command, text=True) for command in commands]
    page = heading() + "\n".join(parts).rstrip("\n") + "\n"
    if chosen.write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)


def heading() -> str:
    """Return the text above the tables."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    today = dt.datetime.now(tz=dt.UTC).date()
    return HEADING.format(date=today, machine=machine(), versions=packages)


if __name__ == "__main__":
    main()
