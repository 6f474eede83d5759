"""The benchmark tables report the measurements."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def conversion(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("conversion")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("processes")


def test_ratios_are_taken_per_round_without_interpreter_start(
    conversion: ModuleType, processes: ModuleType
) -> None:
    seconds = {"start": (1.0, 2.0, 1.0), "floor": (3.0, 3.0, 5.0), "ours": (5.0, 3.0, 13.0)}
    columns = {
        name: tuple(processes.Measured(each, 7_400_000) for each in runs) for name, runs in seconds.items()
    }
    *_, start, floor, ours, _ = conversion.report(columns).split("\n")
    assert start == "| start | 1.00 | 1.00 | 2.00 | 7 |  |"
    assert floor == "| floor | 3.00 | 3.00 | 5.00 | 7 | 1.00 |"
    assert ours == "| ours | 5.00 | 3.00 | 13.00 | 7 | 2.00 |"


def test_programs_alternate_after_a_warm_up_round(processes: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    programs = {name: [sys.executable, "-c", write, str(log), name] for name in "ab"}
    result = processes.in_turn(programs, 2)
    assert log.read_text() == "ababab"
    assert {name: len(runs) for name, runs in result.items()} == {"a": 2, "b": 2}


def test_failing_program_raises(processes: ModuleType) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status 3"):
        processes.measure([sys.executable, "-c", "raise SystemExit(3)"])
