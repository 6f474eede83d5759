"""Measure the conversion of many small checkpoints: throughput, the driver's memory, and a second run.

The checkpoints are seeded random parameters of GluonCV's cifar_resnet20_v1. They and the output are in a
local folder or, with ``--s3``, on a real S3 server on loopback. The floor is a loop of ``convert`` processes,
of which each starts Python and, for a proof, imports torch.

    python benchmarks/fleet.py --files 10 100 --s3
    python benchmarks/fleet.py --files 100 1000 10000 --jobs 2 --s3 --reference none
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import processes

from converter.commands import fleet
from converter.commands.fleet import FleetRequest
from converter.formats.params import save_params
from converter.networks import recorded_graphs, recorded_sources
from converter.parity.options import ParityOptions
from converter.storage import stores

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "cifar_resnet20_v1"
MILLION = 1_000_000
LOOPED = 3  # files that the loop of processes converts
START_SECONDS = 60  # of the server
# Objects up to this size (bytes) stay in the server's memory: checkpoints, but not weights. If both were
# files, a large run would exceed the limit of open files.
IN_MEMORY = 1_105_000


@dataclass
class Cost:
    """The cost of one file, in seconds.

    Attributes:
        seconds: wall-clock time.
        driver: CPU time of this process.
        workers: CPU time of its child processes.
    """

    seconds: float = 0.0
    driver: float = 0.0
    workers: float = 0.0

    def __str__(self) -> str:
        cores = f"{self.workers:7.4f} s of a core in processes, {self.driver:7.4f} s in the driver"
        return f"{self.seconds:7.4f} s per file: {cores}"


def main() -> None:
    """Print the measurements.

    Raises:
        SystemExit: if a checkpoint is not converted, or not skipped the second time.
    """
    parser = argparse.ArgumentParser(description="Measure the conversion of many small checkpoints.")
    parser.add_argument("--files", type=int, nargs="+", default=[100])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--s3", action="store_true", help="use an S3 server on loopback (moto)")
    parser.add_argument("--reference", choices=("numpy", "none"), default="numpy")
    arguments = parser.parse_args()
    options = ParityOptions(arguments.reference)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _bucket() if arguments.s3 else contextlib.nullcontext(name) as place:
            save_params(recorded_sources.random_arrays(recorded_graphs.load(MODEL), 0), folder / "one.params")
            _show(f"loop of processes    {_loop(folder, options)}")
            for files in sorted(arguments.files):
                source = f"{place}/source{files}"
                _write(source, files, folder)
                for jobs in arguments.jobs:
                    out = f"{place}/out{files}-{jobs}"
                    request = FleetRequest(source=source, out=out, options=options, jobs=jobs)
                    _show(f"{files} files, {jobs} at a time")
                    cost = _run(request, files, "converted")
                    _show(f"  converted          {cost}")
                    _show(f"  skipped            {_run(request, files, 'skipped')}")
                    _show(f"  driver             {_peak():.0f} MB of memory at its peak")
            _extrapolate(cost)


def _extrapolate(cost: Cost) -> None:
    """Print what the costs of the last run are for a million files on many machines."""
    hours = MILLION * cost.workers / 3600
    _show(f"a million files      {hours:.0f} hours of a core in processes")
    _show(f"one driver           has work for {cost.workers / cost.driver:.0f} processes")


def _peak() -> float:
    """Return the peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * processes.MAXRSS_BYTES / processes.MEGABYTE


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write(source: str, files: int, folder: Path) -> None:
    """Write the checkpoints, of which two are never the same."""
    store, network = stores.open_store(source), recorded_graphs.load(MODEL)
    path = folder / "one.params"
    for seed in range(files):
        save_params(recorded_sources.random_arrays(network, seed), path)
        store.put(f"team{seed % 10}/{seed:05}.params", path)


def _loop(folder: Path, options: ParityOptions) -> Cost:
    """Return the cost per file of a loop of processes; the first one warms up the system's cache."""
    command = [sys.executable, "-m", "converter", "convert", "auto", str(folder / "loop")]
    command += ["--params", str(folder / "one.params"), "--reference", options.reference]
    subprocess.run(command, check=True, capture_output=True)
    with _measured(LOOPED) as cost:
        for _ in range(LOOPED):
            subprocess.run(command, check=True, capture_output=True)
    return cost


def _run(request: FleetRequest, files: int, verdict: str) -> Cost:
    """Return the cost per file of a run, in which every file must have this verdict."""
    with _measured(files) as cost:
        summary = fleet.run(request)
    if summary.counts[verdict] != files:
        sys.exit(f"expected {files} {verdict}, found {summary.counts}")
    return cost


@contextlib.contextmanager
def _measured(files: int) -> Iterator[Cost]:
    """Measure what is done, in this process and in those that it starts and waits for."""
    cost, before, start = Cost(), os.times(), time.perf_counter()
    yield cost
    cost.seconds = (time.perf_counter() - start) / files
    spent = [(after - earlier) / files for after, earlier in zip(os.times()[:4], before[:4], strict=True)]
    cost.driver, cost.workers = sum(spent[:2]), sum(spent[2:])


@contextlib.contextmanager
def _bucket() -> Iterator[str]:
    """Start a server, and provide the URL of a bucket."""
    import fsspec  # noqa: PLC0415 - of the extra s3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(IN_MEMORY),
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("fleet")
        try:
            yield "s3://fleet"
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
