"""What runs conversions: processes that stay, interruptions, and a Dask cluster that loses its parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_checkpoints import UNPROVEN, convert, verdicts, write_graph
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import fleet
from converter.commands.fleet import FleetRequest
from converter.errors import ProcessesError, SourceError
from converter.fleet import execution, scheduler
from converter.fleet.processes import Processes, cores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.fleet.rows import Row

COUNT = 12
MANY = 48  # so many that a run does not end before it is interrupted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with many checkpoints."""
    for number in range(COUNT):
        write_graph(tmp_path / "source" / str(number), seed=number)
    return tmp_path / "source"


def test_processes_stay_and_a_crash_fails_one_task() -> None:
    with Processes(1) as processes:
        first, second = (processes.submit(os.getpid).result() for _ in range(2))
        assert first == second != os.getpid()
        crash = processes.submit(os._exit, 3).exception()
        assert processes.submit(os.getpid).result() not in {first, os.getpid()}
        assert [each.pid.result() for each in processes._started] == [processes.submit(os.getpid).result()]
    assert isinstance(crash, BrokenProcessPool)
    assert execution.reason(crash) == "its process ended unexpectedly"


def test_requests_are_taken_when_others_have_finished() -> None:
    taken: list[int] = []

    def requests() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(1) as executor:
        for count, _ in enumerate(execution.run(abs, requests(), executor, 3), 1):
            assert len(taken) <= count + 2


def test_unexpected_errors_fail_one_task_with_their_type() -> None:
    with ThreadPoolExecutor(1) as executor:
        (_, error), (_, result) = execution.run(lambda number: 1 / number, [0, 1], executor, 1)
    assert isinstance(error, ZeroDivisionError)
    assert execution.reason(error) == "ZeroDivisionError: division by zero"
    assert execution.reason(SourceError("no such file")) == "no such file"
    assert result == 1


def test_executor_that_was_shut_down_is_an_error_that_says_what_to_do() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ProcessesError, match=r"lost its tasks: .*\n.*Run the same command again"):
        list(execution.run(abs, [1], executor, 1))


def test_interrupted_run_keeps_its_journal_and_is_resumed(source: Path, tmp_path: Path) -> None:
    for number in range(COUNT, MANY):
        write_graph(source / str(number), seed=number)
    out = tmp_path / "out"
    program = [sys.executable, "-m", "converter", "convert-many", str(source), str(out)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*program, "--reference", "none", "--jobs", "1"], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(out.glob("*/*/*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    (journal,) = (out / ".runs").iterdir()
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert 1 <= len(rows) < MANY
    assert not list(tmp_path.rglob(".convert-*"))
    resumed = [*verdicts(convert(source, out)).values()]
    assert resumed.count("skipped") == len(rows)
    assert resumed.count("converted") == MANY - len(rows)


@pytest.fixture
def cluster() -> Iterator[object]:
    """Start a Dask cluster of two processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
    ) as local:
        yield local


def run(source: Path, out: Path, address: str, on_end: object) -> dict[str, str]:
    with scheduler.connect(address) as (executor, jobs):
        request = FleetRequest(source=source, out=out, options=UNPROVEN, jobs=jobs, executor=executor)
        return verdicts(fleet.run(request, on_end=on_end))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")  # of libraries, when a process of theirs is killed
def test_dask_worker_killed_in_the_middle_loses_nothing(
    source: Path, tmp_path: Path, cluster: object
) -> None:
    killed: list[int] = []

    def kill(_: Row) -> None:
        if not killed:
            worker = next(iter(cluster.workers.values()))  # type: ignore[attr-defined]
            killed.append(worker.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    address = cluster.scheduler_address  # type: ignore[attr-defined]
    assert [*run(source, tmp_path / "out", address, kill).values()] == ["converted"] * COUNT
    assert killed
    arguments = ["convert-many", str(source), str(tmp_path / "out"), "--scheduler", address]
    result = CliRunner().invoke(app, [*arguments, "--reference", "none", "--json"])
    assert json.loads(result.stdout)["counts"] == {"converted": 0, "skipped": COUNT, "failed": 0}


@pytest.mark.filterwarnings("ignore")  # as above
def test_lost_scheduler_is_an_error_and_the_run_is_resumed(
    source: Path, tmp_path: Path, cluster: object
) -> None:
    ended: list[str] = []

    def close(row: Row) -> None:
        ended.append(row.source)
        if len(ended) == 1:
            cluster.close()  # type: ignore[attr-defined]

    with pytest.raises(ProcessesError, match="Run the same command again"):
        run(source, tmp_path / "out", cluster.scheduler_address, close)  # type: ignore[attr-defined]
    resumed = [*verdicts(convert(source, tmp_path / "out")).values()]
    assert resumed.count("skipped") >= len(ended) >= 1
    assert resumed.count("failed") == 0


def test_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(scheduler, "CONNECTION_SECONDS", 1)
    connection = scheduler.connect("tcp://127.0.0.1:9")
    with pytest.raises(ProcessesError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers"), connection:
        pass


def initial_environment() -> dict[str, str]:
    """Return the variables with which this process has started."""
    entries = Path("/proc/self/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_threads_are_limited_before_a_process_imports_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (variables := ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")):
        monkeypatch.delenv(name, raising=False)
    with Processes(1) as one, Processes(2 * cores()) as many:
        alone, together = (each.submit(initial_environment).result() for each in (one, many))
    assert [alone.get(name) for name in variables] == [None, None, "PASSIVE"]
    assert [together.get(name) for name in variables] == ["1", "1", "PASSIVE"]
    assert not {*variables} & {*os.environ}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Processes(2 * cores()) as many:
        assert many.submit(initial_environment).result()["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"
