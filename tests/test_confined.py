"""Files that promise much are refused in little memory and little time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.hostile import HOSTILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and RLIMIT_AS is Linux's")
TESTS = Path(__file__).parent
PATIENCE_SECONDS = 60  # where all else runs at the same time; what hangs does so for hours
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}  # each has a stack and an arena in its address space


def confined(name: str, *files: Path, seconds: float = PATIENCE_SECONDS) -> tuple[dict[str, str], str]:
    """Return what became of each file, and what was said on stderr."""
    search = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.confined", str(seconds), name, *map(str, files)],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {file: outcome for outcome, file in outcomes}, done.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_what_promises_much_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    for label, build in HOSTILE[name].items():
        (tmp_path / label).write_bytes(build())
    outcomes, said = confined(name, *(tmp_path / label for label in HOSTILE[name]))
    assert outcomes == dict.fromkeys(HOSTILE[name], "refused"), said


@pytest.mark.parametrize(
    ("control", "outcome", "reason"),
    [
        ("leaks", {"a": "KeyError"}, ""),
        ("grabs", {"a": "MemoryError"}, ""),
        ("strays", {"a": "StrayError"}, ""),
        ("hangs", {}, "Timeout"),
    ],
)
def test_a_reader_that_does_what_none_may_is_caught(
    control: str, outcome: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    found, said = confined(control, tmp_path / "a", seconds=1)
    assert found == outcome
    assert reason in said
