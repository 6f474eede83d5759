"""Convert many models in parallel processes, skipping those that are already converted."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.choices import ReferenceChoice
from converter.commands.arguments import optional_path, to_path
from converter.commands.conversion import ConversionRequest
from converter.commands.worker_pool import WorkerPool, cores
from converter.errors import ConversionError, SourceError, UsageError
from converter.manifests import artifact_checks, strength
from converter.manifests.converted_file import RANDOM
from converter.manifests.schema import Manifest
from converter.manifests.strength import Claim
from converter.networks import catalog, graph_matching, selection
from converter.networks.selection import ParamsSource, require_seed
from converter.parity.options import ParityOptions
from converter.parity.result import GLUONCV
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from pathlib import Path

    from converter.networks.catalog import Model


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
    manifest: Manifest | None = None
    reason: str = ""


class OutcomeRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome for one model in a summary; a failure has only a reason."""

    model: str
    status: str
    reason: str | None = None
    file: str | None = None
    sha256: str | None = None
    proven: bool | None = None
    reference: str | None = None
    definition: str | None = None
    symbol: str | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """The outcomes of all models, with their number per status."""

    counts: dict[str, int]
    models: tuple[OutcomeRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What to convert and how.

    Attributes:
        models: the models.
        out: output folder.
        params_dir: folder of ``.params`` files named by their models; without it and ``seed``, the published
            parameters are converted.
        seed: seed of random parameters.
        options: how to prove each conversion.
        jobs: number of conversions at a time.
    """

    models: tuple[Model, ...]
    out: Path
    params_dir: Path | None = None
    seed: int | None = None
    options: ParityOptions = ParityOptions()
    jobs: int = 1

    def __post_init__(self) -> None:
        """Check the seed and the number of jobs."""
        if self.seed is not None:
            require_seed(self.seed)
        if self.jobs < 1:
            raise UsageError(f"`jobs`: expected at least 1, found {self.jobs}", "jobs")


def ignore(_: object) -> None:
    """Do nothing."""


def convert_many(  # noqa: PLR0913 - the options of the command
    models: str | Sequence[str],
    out: str | PathLike[str],
    *,
    params_dir: str | PathLike[str] | None = None,
    random: int | None = None,
    options: ParityOptions = ParityOptions(),
    jobs: int | None = None,
    on_start: Callable[[str], None] = ignore,
    on_end: Callable[[Outcome], None] = ignore,
) -> list[Outcome]:
    """Convert many models into one folder, continuing after failures.

    A model is skipped if the folder has a complete conversion of the same parameters with a proof that is at
    least as strong. An interruption ends the running conversions.

    The conversions run in processes that are spawned: a script must call this function below
    ``if __name__ == "__main__":``.

    Args:
        models: names or patterns such as "gluon_resnet50_*".
        out: output folder, created if it does not exist.
        params_dir: folder of ``.params`` files, each named by its model; by default GluonCV's cache, then
            downloads.
        random: seed of random parameters, instead of files.
        options: how to prove each conversion.
        jobs: number of conversions at a time; by default half the number of CPU cores.
        on_start: called with each model's name, from threads.
        on_end: called with each model's outcome, from threads.

    Returns:
        The outcomes, in the order of the models.

    Raises:
        UsageError: if an argument is not valid.
        CatalogError: if a pattern matches no model.
        StorageError: if the output folder cannot be written to.
    """
    if params_dir is not None and random is not None:
        raise UsageError("`params_dir` and `random` cannot be used together", "params_dir", "random")
    request = BatchRequest(
        models=catalog.select([models] if isinstance(models, str) else models),
        out=to_path(out),
        params_dir=optional_path(params_dir),
        seed=random,
        options=options,
        jobs=max(1, cores() // 2) if jobs is None else jobs,
    )
    return run(request, on_start, on_end)


def run(
    request: BatchRequest,
    on_start: Callable[[str], None] = ignore,
    on_end: Callable[[Outcome], None] = ignore,
) -> list[Outcome]:
    """Run a batch.

    Raises:
        StorageError: if the output folder cannot be written to.
    """
    disk.require_writable(request.out)
    with ThreadPoolExecutor(request.jobs) as executor, WorkerPool(request.jobs) as workers:

        def work(model: Model) -> Outcome:
            on_start(model.name)
            outcome = _convert(request, model, workers)
            on_end(outcome)
            return outcome

        try:
            futures = [executor.submit(work, model) for model in request.models]
            return [future.result() for future in futures]
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            workers.terminate()
            raise


def summary(outcomes: list[Outcome]) -> Summary:
    """Return the outcomes for programs."""
    return Summary(
        counts={status.value: sum(one.status is status for one in outcomes) for status in Status},
        models=tuple(map(_row, outcomes)),
    )


def _row(outcome: Outcome) -> OutcomeRow:
    manifest = outcome.manifest
    if manifest is None:
        return OutcomeRow(model=outcome.model, status=outcome.status.value, reason=outcome.reason)
    return OutcomeRow(
        model=outcome.model,
        status=outcome.status.value,
        file=manifest.artifact.file,
        sha256=manifest.artifact.sha256,
        proven=manifest.parity.proven,
        reference=manifest.parity.reference,
        definition=manifest.parity.definition,
        symbol=manifest.source.symbol,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKey:
    """What identifies the parameters of an earlier conversion; None matches any value.

    Attributes:
        file: name of the file.
        sha1: SHA-1 of the parameters.
        symbol_sha256: SHA-256 of their graph, "" for none.
        random: whether they are seeded random numbers.
    """

    file: str | None = None
    sha1: str | None = None
    symbol_sha256: str | None = None
    random: bool = False

    def matches(self, manifest: Manifest) -> bool:
        """Return whether a manifest records this file, SHA-1 and graph."""
        source = manifest.source
        pairs = (
            (self.random, manifest.artifact.file.startswith(manifest.model + RANDOM)),
            (self.file, source.file),
            (self.sha1, source.sha1),
            (self.symbol_sha256, source.symbol_sha256 or ""),
        )
        return all(expected in {None, actual} for expected, actual in pairs)


def find_conversion(out: Path, model: Model, key: SourceKey, options: ParityOptions) -> Manifest | None:
    """Return the manifest of a complete conversion by the current mapping; None if there is none.

    Args:
        out: output folder.
        model: the model.
        key: its parameters.
        options: how strong its proof must at least be.
    """
    for path in sorted(out.glob(f"{model.name}*.safetensors")):
        try:
            manifest = artifact_checks.read(path).manifest
        except ConversionError:  # incomplete, damaged or changed
            continue
        if (
            isinstance(manifest, Manifest)
            and manifest.model == model.name
            and key.matches(manifest)
            and manifest.mapping is not None
            and manifest.mapping.sha256 == model.mapping.sha256
            and manifest.narrowing is None  # a batch does not round
            and (manifest.source.symbol is not None or manifest.model_args is None)  # and dilates by graphs
            and _satisfies(manifest, options)
        ):
            return manifest
    return None


def _satisfies(manifest: Manifest, options: ParityOptions) -> bool:
    """Return whether a manifest's proof is at least as strong as the options require."""
    if options.reference == ReferenceChoice.none:
        return True
    reference = strength.NUMPY if options.reference == ReferenceChoice.auto else options.reference
    required = {Claim(probe.dtype, reference, GLUONCV, probe.label) for probe in options.probes}
    return required <= strength.claims(manifest.parity)


def _convert(request: BatchRequest, model: Model, workers: WorkerPool) -> Outcome:
    """Convert a model in a worker, unless it is already converted."""
    try:
        source, key = _source(request, model)
        manifest = find_conversion(request.out, model, key, request.options)
        if manifest is not None:
            return Outcome(model.name, Status.skipped, manifest)
        one = ConversionRequest(source=source, out=request.out, options=request.options)
        return Outcome(model.name, Status.converted, workers.convert(one))
    except BrokenProcessPool:
        return Outcome(model.name, Status.failed, reason="its process ended unexpectedly")
    except MemoryError:
        return Outcome(model.name, Status.failed, reason="not enough memory")
    except (ConversionError, OSError) as error:
        return Outcome(model.name, Status.failed, reason=str(error).removeprefix(f"{model.name}: "))


def _source(request: BatchRequest, model: Model) -> tuple[ParamsSource, SourceKey]:
    """Return a model's parameters, and what identifies them in a manifest.

    Raises:
        SourceError: if there are none.
    """
    if request.seed is not None:
        file = f"{model.name}.random-{request.seed}.params"
        return ParamsSource(model, seed=request.seed), SourceKey(file=file, random=True)
    if request.params_dir is None:
        if not model.entry.params_sha1:
            raise SourceError("GluonCV never published its parameters")
        return ParamsSource(model), SourceKey(sha1=model.entry.params_sha1)
    published = [model.official_file] if model.entry.params_sha1 else []
    names = [f"{model.name}.params", f"{model.entry.gluon}.params", *published]
    files = [path for path in (request.params_dir / name for name in names) if path.is_file()]
    if not files:
        raise SourceError(f"{request.params_dir}: contains none of {', '.join(names)}")
    source = ParamsSource(model, params=files[0])
    with selection.open_source(source, silent) as params:
        graph = graph_matching.find_of_file(source, params)
        symbol = hashlib.sha256(graph.content).hexdigest() if graph else ""
        return source, SourceKey(file=files[0].name, sha1=params.sha1, symbol_sha256=symbol)
