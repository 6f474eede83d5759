"""Concurrent runs, unwritable streams, and references that hang or are orphaned."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import faults
import pytest

from converter.commands import conversion
from converter.errors import ReferenceFailedError
from converter.formats.params import write_params
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.references import child_process, gluon
from converter.references.probes import Probe
from converter.storage import disk

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.networks.catalog import Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

MODEL = "gluon_resnet18_v1b"
PROGRAM = [sys.executable, "-P", "-m", "converter"]
UNPROVEN, PROVEN = (
    ParityOptions("none"),
    ParityOptions("numpy", sizes=[(33, 33)], dtypes=["float32"]),
)
TIMEOUT_SECONDS = 0.3
NOTHING = gluon.GluonRequest(layers=(), document={})
NO_MEMORY = "Cannot allocate memory (os error 12)"


def script(path: Path, text: str) -> Path:
    """Write a shell script to be used in place of a Python interpreter."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("options", "sources"),
    [([UNPROVEN] * 2, 1), ([UNPROVEN] * 8, 1), ([UNPROVEN] * 8, 4), ([UNPROVEN, PROVEN] * 2, 1)],
    ids=["two runs", "eight runs", "eight runs, four sources", "proven and unproven"],
)
def test_concurrent_runs_into_one_folder_leave_it_intact(
    tiny: Model,
    tiny_params: dict[str, Array],
    in_memory: Path,
    options: list[ParityOptions],
    sources: int,
) -> None:
    out, running = in_memory / "out", []
    for number, each in enumerate(options):
        params = in_memory / f"{number % sources}.params"
        if number < sources:
            tiny_params["output.bias"][0] = number
            with params.open("wb") as stream:
                write_params(stream, tiny_params)
        request, output_file = (
            conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=each),
            in_memory / f"told{number}",
        )
        running.append(faults.start(faults.convert_reporting, request, in_memory, output_file))
    assert {faults.finish(process) for process in running} == {0}
    outputs = [(in_memory / f"told{number}").read_text() for number in range(len(options))]
    refused = [text for text in outputs if text != "converted"]
    assert all("that this run has not" in text for text in refused)
    assert len(refused) <= options.count(UNPROVEN) * (PROVEN in options)
    assert len(faults.contents(out)) == 2 * sources
    assert not faults.defects(out)
    for manifest in out.glob("*.json"):
        assert json.loads(manifest.read_text())["parity"]["proven"] == (PROVEN in options)
    assert not list(in_memory.glob(".*"))


STDOUT = [["list"], ["list", "--json"], ["--version"], ["--help"]]


def run_with_stdout(arguments: list[str], stdout: int) -> tuple[int, str]:
    done = subprocess.run(
        [*PROGRAM, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", STDOUT)
def test_full_device_on_stdout_is_reported_in_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        outcome = run_with_stdout(arguments, full.fileno())
    assert outcome == (1, "refused  stdout: No space left on device\n")


@pytest.mark.parametrize("arguments", STDOUT)
def test_closed_pipe_on_stdout_ends_the_program_silently(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outcome = run_with_stdout(arguments, writing)
    os.close(writing)
    assert outcome == (141, "")


def test_refusal_is_not_hidden_by_a_closed_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    status, stderr = run_with_stdout(["inspect", str(tmp_path / "none.params")], writing)
    os.close(writing)
    assert (status, "No such file" in stderr) == (1, True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's RLIMIT_AS")
def test_insufficient_memory_is_reported_in_one_line(tmp_path: Path) -> None:
    large = tmp_path / "large.safetensors"  # safetensors maps it into memory; it declares a gigabyte of zeros
    header = b'{"a":{"dtype":"U8","shape":[1073741824],"data_offsets":[0,1073741824]}}'
    large.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(large, 8 + len(header) + (1 << 30))
    limited = f'ulimit -v {1 << 20}; exec "$@"'
    for command, status in ((limited, 1), ('exec "$@"', 0)):
        program = ["/bin/sh", "-c", command, "sh", *PROGRAM, "inspect", str(large)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        expected = f"refused  not enough memory: {NO_MEMORY}\n" if status else ""
        assert done.stderr == expected


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-", "2>/dev/full"])
def test_closed_standard_streams_do_not_damage_the_output(closed: str, tmp_path: Path) -> None:
    command = f'"$@" {closed}'
    arguments = ["convert", MODEL, str(tmp_path / "out"), "--random", "0", "--reference", "none"]
    done = subprocess.run(["/bin/sh", "-c", command, "sh", *PROGRAM, *arguments], check=False)
    assert done.returncode == 0
    assert len(faults.contents(tmp_path / "out")) == 2
    assert not faults.defects(tmp_path / "out")


def test_hanging_reference_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "PATIENCE_SECONDS", TIMEOUT_SECONDS)
    sleeper = script(tmp_path / "sleeper", "exec sleep 60")
    with (
        gluon.start(sleeper, NOTHING, ()) as run,
        pytest.raises(ReferenceFailedError, match=r"it computed no output for 0\.3 seconds\nYou can:"),
    ):
        run.outputs(0)
    assert run.child.process.returncode is not None


def test_slow_reference_with_progress_does_not_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "PATIENCE_SECONDS", TIMEOUT_SECONDS)
    steps = "for layer in 0 1 2 3 4 5 6 7 8 9; do : >$2/0-$layer.npy; sleep 0.1; done; echo done; exit 3"
    slow = script(tmp_path / "slow", steps)
    with (
        gluon.start(slow, NOTHING, ()) as run,
        pytest.raises(ReferenceFailedError, match="its process ended with status 3 and printed:\ndone"),
    ):
        run.outputs(0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_gluoncv_process_ends_with_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / "mxnet.py").write_text("import time\ntime.sleep(60)\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = """\
import sys, time
from pathlib import Path
from converter.references import gluon
with gluon.start(Path(sys.executable), gluon.GluonRequest(layers=(), document={}), ()) as run:
    print(run.child.process.pid, flush=True)
    time.sleep(60)
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        child = Path("/proc", process.stdout.readline().strip(), "cmdline")
        time.sleep(0.5)  # by now it is importing MXNet
        assert b"gluon_child" in child.read_bytes()
        process.kill()
    deadline = time.monotonic() + 30
    while child.exists() and child.read_bytes():  # empty for a zombie
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)
    assert faults.contents(temporary)
    with disk.temporary_folder(temporary):
        assert len(list(temporary.iterdir())) == 1
    assert not faults.contents(temporary)


def test_outputs_of_the_reference_are_counted_as_they_appear(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    outputs = "for layer in 0 1 2; do : >$2/0-$layer.npy; sleep 0.5; done; exit 3"
    slow = script(tmp_path / "slow", outputs)
    request = replace(NOTHING, layers=("a", "b", "c"))
    probes = (Probe("float32", (65, 95)),)
    with (
        gluon.start(slow, request, probes, lambda *step: steps.append(step)) as run,
        pytest.raises(ReferenceFailedError, match="status 3"),
    ):
        run.outputs(0)
    assert {total for _, _, total in steps} == {3}
    assert [done for _, done, _ in steps] == sorted({done for _, done, _ in steps})
    assert steps[-1] == ("reference", 3, 3)
