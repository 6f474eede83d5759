"""Fuzz all readers with atheris, each in its own process: ``python -m fuzz.campaign SUMMARY``."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fuzz.targets import LIMIT_SECONDS, TARGETS

FOLDER = Path("build/fuzz")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
COVERED = re.compile(r"cov: (\d+) .*?corp: (\d+)")
PACKAGES = ("atheris", "numpy", "torch", "safetensors", "msgspec")
ROW = "| {} | {:,} | {:.0f} | {:,} | {:,} | {} |"
SUMMARY = """\
# Results of fuzzing

Written by `nox -s fuzz`. Python {python}, {packages}; {cores} cores.

Each reader runs in its own process with a limited address space. A finding is any exception except
`ConversionError`, a file that takes {limit} seconds, or an unexpected file in the input's folder. Coverage is
libFuzzer's count of edges in `converter` and in the parts of `tomllib`, `zipfile`, `gzip` and `tarfile` that
it uses; the corpus is the number of files that libFuzzer kept. `tests/fuzz/targets.py` lists the readers.
Past findings are in `tests/regressions/`, and the tests read them.

| reader | executions | seconds | coverage | corpus | findings |
|---|---|---|---|---|---|
{rows}
{total}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of fuzzing one reader: covered edges, and the number of files that libFuzzer kept."""

    name: str
    executions: int
    seconds: float
    covered: int
    corpus: int
    findings: tuple[Path, ...]
    log: str

    @property
    def passed_all(self) -> bool:
        """Whether all executions ran without a finding."""
        return self.executions >= TARGETS[self.name].runs and not self.findings


def main(summary: Path) -> int:
    """Fuzz, write the summary, and return the number of readers that failed."""
    folder = FOLDER / time.strftime("%Y%m%d-%H%M%S")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, folder / name), TARGETS))
    summary.write_text(document(outcomes), encoding="utf-8")
    for outcome in outcomes:
        if not outcome.passed_all:
            print(outcome.log[-4000:], *outcome.findings, sep="\n")  # noqa: T201 - a program
    return sum(not outcome.passed_all for outcome in outcomes)


def fuzz(name: str, folder: Path) -> Outcome:
    """Fuzz one reader."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "fuzz.drive", name, str(folder), str(TARGETS[name].runs)]
    begin = time.monotonic()
    log = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
    seconds = time.monotonic() - begin
    outcome = parse_outcome(name, log.decode(errors="replace"), seconds, folder)
    print(f"{name}: {outcome.executions} executions in {seconds:.0f} s", flush=True)  # noqa: T201 - a program
    return outcome


def parse_outcome(name: str, log: str, seconds: float, folder: Path) -> Outcome:
    """Parse libFuzzer's log and collect the files that it saved."""
    executed, covered = EXECUTED.search(log), COVERED.findall(log)
    saved = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    features, corpus = map(int, covered[-1]) if covered else (0, 0)
    return Outcome(name, int(executed[1]) if executed else 0, seconds, features, corpus, saved, log)


def document(outcomes: list[Outcome]) -> str:
    """Return the summary as Markdown."""
    rows = [
        (each.name, each.executions, each.seconds, each.covered, each.corpus, len(each.findings))
        for each in outcomes
    ]
    _, executions, seconds, _, _, findings = zip(*rows, strict=True)
    return SUMMARY.format(
        python=platform.python_version(),
        packages=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        cores=os.cpu_count(),
        limit=LIMIT_SECONDS,
        rows="\n".join(ROW.format(*row) for row in rows),
        total=f"| all | {sum(executions):,} | {sum(seconds):.0f} | | | {sum(findings)} |",
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
