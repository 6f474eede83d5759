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
    seconds = {
        conversion.START: (1.0, 2.0, 1.0),
        conversion.FLOOR: (3.0, 3.0, 5.0),
        conversion.THREADED: (2.0, 4.0, 3.0),
        conversion.TORCH: (1.0, 1.0, 1.0),
        conversion.UNPROVEN: (5.0, 3.0, 13.0),
        conversion.PROVEN: (12.0, 8.0, 14.0),
    }
    columns = {
        name: tuple(processes.Measured(each, 7_400_000) for each in runs) for name, runs in seconds.items()
    }
    lines = conversion.report(columns).split("\n")
    start, floor, threaded, torch, unproven, proven = lines[4:10]
    assert start == "| interpreter start | 1.00 | 1.00 | 2.00 | 7 |  |  |"
    assert floor == f"| {conversion.FLOOR} | 3.00 | 3.00 | 5.00 | 7 | 1.00 | 2.00 |"
    assert threaded == f"| {conversion.THREADED} | 3.00 | 2.00 | 4.00 | 7 | 0.50 | 1.00 |"
    assert torch == "| `import torch` | 1.00 | 1.00 | 1.00 | 7 |  |  |"
    assert unproven == f"| {conversion.UNPROVEN} | 5.00 | 3.00 | 13.00 | 7 | 2.00 | 4.00 |"
    assert proven == f"| {conversion.PROVEN} | 12.00 | 8.00 | 14.00 | 7 | 5.50 | 6.50 |"
    both = "`convert --reference none` and `import torch` together"
    assert lines[-2] == f"`convert` with its proof takes 2.40 × {both}."


@pytest.mark.parametrize("options", [(), ("--parallel",)])
def test_floor_copies_the_file(options: tuple[str, ...], tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(bytes(range(256)) * 5000)  # more than a chunk
    subprocess.run([sys.executable, BENCHMARKS / "floor.py", source, copy, *options], check=True)
    assert copy.read_bytes() == source.read_bytes()


def test_zeros_of_a_sparse_file_take_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    depth = importlib.import_module("depth")
    data = b"begin" + bytes(1 << 22) + b"end" + bytes(100)
    with depth.SparseFile(tmp_path / "sparse", "w") as file:
        file.writelines([data, memoryview(data)])
        file.truncate()
    assert (tmp_path / "sparse").read_bytes() == data * 2
    assert (tmp_path / "sparse").stat().st_blocks * 512 < len(data)


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
