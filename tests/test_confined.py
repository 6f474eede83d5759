"""Files that declare huge sizes are refused in little memory and little time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.hostile import HOSTILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
TESTS = Path(__file__).parent
TIMEOUT_SECONDS = 60  # generous, because other tests run at the same time; a hang would last for hours
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}  # each thread has a stack and an arena in the address space


def run_confined(name: str, *files: Path, seconds: float = TIMEOUT_SECONDS) -> tuple[dict[str, str], str]:
    """Return the outcome for each file, and stderr."""
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
def test_file_that_declares_huge_sizes_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    for label, build in HOSTILE[name].items():
        (tmp_path / label).write_bytes(build())
    outcomes, stderr = run_confined(name, *(tmp_path / label for label in HOSTILE[name]))
    assert outcomes == dict.fromkeys(HOSTILE[name], "refused"), stderr


@pytest.mark.parametrize(
    ("control", "outcome", "reason"),
    [
        ("leaks", {"a": "KeyError"}, ""),
        ("grabs", {"a": "MemoryError"}, ""),
        ("strays", {"a": "StrayError"}, ""),
        ("hangs", {}, "Timeout"),
    ],
)
def test_misbehaving_reader_is_detected(
    control: str, outcome: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    result, stderr = run_confined(control, tmp_path / "a", seconds=1)
    assert result == outcome
    assert reason in stderr
