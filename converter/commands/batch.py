"""Convert many models in parallel processes, skipping those that are already converted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from converter.choices import ReferenceChoice
from converter.errors import ArtifactError, ConversionError, SourceError
from converter.manifests.schema import MAX_MANIFEST_BYTES
from converter.networks import loading
from converter.networks.loading import ParamsSource
from converter.parity import strength
from converter.parity.runner import ParityOptions
from converter.parity.strength import Claim
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.networks.catalog import Model

# Errors of reading a file that is not a manifest, or a manifest of another version.
UNREADABLE = (ArtifactError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Status(StrEnum):
    """What happened to a model."""

    converted = "converted"
    skipped = "skipped"
    failed = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one model: its manifest, or the reason why it has none."""

    model: str
    status: Status
    manifest: dict[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What to convert and how.

    Attributes:
        models: the models.
        out: output folder.
        folder: folder of ``.params`` files named by their models; without it and ``seed``, the published
            parameters are converted.
        seed: seed of random parameters.
        terms: how to prove each conversion.
        jobs: number of conversions at a time.
    """

    models: tuple[Model, ...]
    out: Path
    folder: Path | None = None
    seed: int | None = None
    terms: ParityOptions = ParityOptions()
    jobs: int = 1


def convert(
    request: BatchRequest, started: Callable[[str], None], ended: Callable[[Outcome], None]
) -> list[Outcome]:
    """Convert every model, continuing after failures; return the outcomes in the order of the models.

    An interruption terminates the running processes.

    Args:
        request: what to convert.
        started: called with each model's name, from threads.
        ended: called with each model's outcome, from threads.
    """
    with _Processes(request.jobs) as processes, ThreadPoolExecutor(request.jobs) as executor:

        def work(model: Model) -> Outcome:
            started(model.name)
            outcome = _convert(request, model, processes)
            ended(outcome)
            return outcome

        futures = [executor.submit(work, model) for model in request.models]
        try:
            return [future.result() for future in futures]
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the outcomes as a JSON-compatible dictionary."""
    return {
        "counts": {status.value: sum(one.status is status for one in outcomes) for status in Status},
        "models": [_row(outcome) for outcome in outcomes],
    }


def present(out: Path, model: Model, origin: dict[str, Any], terms: ParityOptions) -> dict[str, Any] | None:
    """Return the manifest of a complete conversion by the current mapping; None if there is none.

    Args:
        out: output folder.
        model: the model.
        origin: entries that the manifest's ``source`` must have.
        terms: how strong its proof must at least be.
    """
    for path in sorted(out.glob(f"{model.name}*.json")):
        with contextlib.suppress(*UNREADABLE):
            manifest = json.loads(disk.read_small(path, MAX_MANIFEST_BYTES, ArtifactError))
            artifact = out / manifest["artifact"]["file"]
            if (
                manifest["model"] == model.name
                and artifact.with_suffix(".json") == path
                and origin.items() <= manifest["source"].items()
                and manifest["mapping"]["sha256"] == model.mapping.sha256
                and _satisfies(manifest["parity"], terms)
                and disk.sha256(artifact, ArtifactError) == manifest["artifact"]["sha256"]
            ):
                return dict(manifest)
    return None


def _satisfies(parity: dict[str, Any], terms: ParityOptions) -> bool:
    """Return whether a manifest's proof is at least as strong as the options require."""
    if terms.choice is ReferenceChoice.none:
        return True
    reference = strength.NUMPY if terms.choice is ReferenceChoice.auto else terms.choice.value
    required = {Claim(probe.dtype, reference, strength.GLUONCV, probe.label) for probe in terms.probes}
    return required <= strength.claims(parity)


def _convert(request: BatchRequest, model: Model, processes: _Processes) -> Outcome:
    try:
        options, source = _source(request, model)
    except ConversionError as error:
        return Outcome(model.name, Status.failed, reason=str(error))
    manifest = present(request.out, model, source, request.terms)
    if manifest is not None:
        return Outcome(model.name, Status.skipped, manifest)
    arguments = ["convert", model.name, str(request.out), "--json", *options, *_arguments(request.terms)]
    status, stdout, stderr = processes.run(arguments)
    if status != 0:
        reason = stderr.strip().removeprefix("refused").strip().removeprefix(f"{model.name}: ")
        return Outcome(model.name, Status.failed, reason=reason or f"it ended with status {status}")
    return Outcome(model.name, Status.converted, json.loads(stdout))


def _source(request: BatchRequest, model: Model) -> tuple[list[str], dict[str, Any]]:
    """Return the options that select a model's parameters, and entries of its manifest's ``source``."""
    if request.seed is not None:
        file = f"{model.name}.random-{request.seed}.params"
        return ["--random", str(request.seed)], {"file": file, "official": False}
    if request.folder is None:
        if not model.entry.params_sha1:
            raise SourceError("GluonCV never published its parameters")
        return [], {"sha1": model.entry.params_sha1}
    published = [model.official_file] if model.entry.params_sha1 else []
    names = [f"{model.name}.params", f"{model.entry.gluon}.params", *published]
    files = [path for path in (request.folder / name for name in names) if path.is_file()]
    if not files:
        raise SourceError(f"{request.folder}: none of {', '.join(names)} is there")
    origin = ParamsSource(model, params=files[0])
    with loading.open_source(origin, silent) as source:
        graph = loading.find_graph(origin, source)
        symbol = hashlib.sha256(graph.content).hexdigest() if graph else None
        record = {"file": files[0].name, "sha1": source.sha1, "symbol_sha256": symbol}
    return ["--params", str(files[0])], record


def _arguments(terms: ParityOptions) -> list[str]:
    """Return the options as command-line arguments."""
    arguments = ["--reference", terms.choice.value]
    if terms.choice is not ReferenceChoice.none:
        arguments += [
            argument for size in dict.fromkeys(p.label for p in terms.probes) for argument in ("--size", size)
        ]
        arguments += [
            argument
            for dtype in dict.fromkeys(p.dtype for p in terms.probes)
            for argument in ("--proof-dtype", dtype)
        ]
    if terms.gluon_python:
        arguments += ["--gluon-python", str(terms.gluon_python)]
    return arguments


def _row(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"model": outcome.model, "status": outcome.status.value}
    if outcome.manifest is None:
        return {**row, "reason": outcome.reason}
    artifact, parity = outcome.manifest["artifact"], outcome.manifest["parity"]
    return {
        **row,
        "file": artifact["file"],
        "sha256": artifact["sha256"],
        "proven": parity["proven"],
        "reference": parity["reference"],
        "definition": parity["definition"],
        "symbol": outcome.manifest["source"]["symbol"],
    }


class _Processes:
    """Processes of our own command, among which the CPU cores are divided."""

    def __init__(self, jobs: int) -> None:
        share = max(1, (os.cpu_count() or 1) // jobs)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(share))
        self.environment = {**threads, **os.environ} if jobs > 1 else dict(os.environ)
        self.running: set[subprocess.Popen[str]] = set()
        self.ended = False
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, arguments: list[str]) -> tuple[int, str, str]:
        """Run a command to completion; return its exit status, stdout and stderr."""
        with self.lock:
            if self.ended:
                return 1, "", "interrupted"
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-P", "-m", "converter", *arguments],  # -P: not from the current folder
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=self.environment,
            )
            self.running.add(process)
        try:
            stdout, stderr = process.communicate()
        finally:
            with self.lock:
                self.running.discard(process)
        return process.returncode, stdout, stderr

    def end(self) -> None:
        """Terminate the running processes, so that they clean up, and start no more."""
        with self.lock:
            self.ended = True
            for process in self.running:
                process.terminate()
