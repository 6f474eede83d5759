"""All readers under atheris, each in a process of its own, and what came of it: ``python -m fuzz.campaign SUMMARY``."""

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

from fuzz.targets import TARGETS

FOLDER = Path("build/fuzz")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
COVERED = re.compile(r"cov: (\d+) .*?corp: (\d+)")
PACKAGES = ("atheris", "numpy", "torch", "safetensors", "msgspec")
COMMAND = "nox -s fuzz"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fuzzing one reader came to. ``covered`` is libFuzzer's count, ``corpus`` the files it kept for it."""

    name: str
    executions: int
    seconds: float
    covered: int
    corpus: int
    findings: tuple[Path, ...]
    log: str

    @property
    def is_whole(self) -> bool:
        """Whether all was executed and nothing found."""
        return self.executions >= TARGETS[self.name].runs and not self.findings


def main(summary: Path) -> int:
    """Fuzz, write the summary, and return how many readers failed."""
    folder = FOLDER / time.strftime("%Y%m%d-%H%M%S")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, folder / name), TARGETS))
    summary.write_text(document(outcomes), encoding="utf-8")
    for outcome in outcomes:
        if not outcome.is_whole:
            print(outcome.log[-4000:], *outcome.findings, sep="\n")  # noqa: T201 - a program
    return sum(not outcome.is_whole for outcome in outcomes)


def fuzz(name: str, folder: Path) -> Outcome:
    """Fuzz one reader."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "fuzz.drive", name, str(folder), str(TARGETS[name].runs)]
    begin = time.monotonic()
    log = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
    seconds = time.monotonic() - begin
    outcome = outcome_of(name, log.decode(errors="replace"), seconds, folder)
    print(f"{name}: {outcome.executions} executions in {seconds:.0f} s", flush=True)  # noqa: T201 - a program
    return outcome


def outcome_of(name: str, log: str, seconds: float, folder: Path) -> Outcome:
    """Read libFuzzer's log, and look for what it saved."""
    executed, covered = EXECUTED.search(log), COVERED.findall(log)
    found = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    features, corpus = map(int, covered[-1]) if covered else (0, 0)
    return Outcome(name, int(executed[1]) if executed else 0, seconds, features, corpus, found, log)


def document(outcomes: list[Outcome]) -> str:
    """Return the summary as Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows = [
        f"| {each.name} | {each.executions:,} | {each.seconds:.0f} | {each.covered:,} | {each.corpus:,} "
        f"| {len(each.findings)} |"
        for each in outcomes
    ]
    total = (
        f"| all | {sum(each.executions for each in outcomes):,} | {sum(each.seconds for each in outcomes):.0f} "
        f"| | | {sum(len(each.findings) for each in outcomes)} |"
    )
    return "\n".join(
        [
            "# Fuzzing, as it last ran",
            "",
            f"Written by `{COMMAND}`. Python {platform.python_version()}, {packages}; {os.cpu_count()} cores.",
            "",
            "Each reader runs in a process of its own, with a limit to its address space; a file that takes ten",
            "seconds is a finding, and so is any exception but `ConversionError`, or a file written beside the input.",
            "Coverage is libFuzzer's count of edges in `converter` and the parsers of Python's library that it uses;",
            "the corpus are the files that it kept for them. `tests/fuzz/targets.py` lists the readers,",
            "`tests/regressions/` has what was found, and the tests read it on every run.",
            "",
            "| reader | executions | seconds | coverage | corpus | findings |",
            "|---|---|---|---|---|---|",
            *rows,
            total,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
