"""Convert many models in parallel processes, skipping those that are already converted."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload

from msgspec import Struct

from converter.choices import ReferenceChoice
from converter.commands import conversion, fleet
from converter.commands.arguments import optional_path, to_path
from converter.commands.conversion import ConversionRequest
from converter.errors import ConversionError, SourceError, UsageError
from converter.fleet import execution
from converter.fleet.execution import ignore
from converter.fleet.processes import cores
from converter.fleet.rows import Verdict, count
from converter.manifests import artifact_checks, strength
from converter.manifests.converted_file import RANDOM
from converter.manifests.schema import Manifest
from converter.manifests.strength import Claim
from converter.networks import catalog, graph_matching, selection
from converter.networks.selection import AUTO, ParamsSource, require_seed
from converter.parity.options import ParityOptions
from converter.parity.result import GLUONCV
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from os import PathLike
    from pathlib import Path

    from converter.fleet.rows import FleetSummary, Row
    from converter.networks.catalog import Model


Status = Verdict


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
        executor: what runs them, by default processes on this machine.
    """

    models: tuple[Model, ...]
    out: Path
    params_dir: Path | None = None
    seed: int | None = None
    options: ParityOptions = ParityOptions()
    jobs: int = 1
    executor: Executor | None = None

    def __post_init__(self) -> None:
        """Check the seed and the number of jobs."""
        if self.seed is not None:
            require_seed(self.seed)
        if self.jobs < 1:
            raise UsageError(f"`jobs`: expected at least 1, found {self.jobs}", "jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One model of a batch."""

    model: Model
    batch: BatchRequest


@overload
def convert_many(
    models: str | Sequence[str],
    out: str | PathLike[str],
    *,
    params_dir: str | PathLike[str] | None = None,
    random: int | None = None,
    options: ParityOptions = ...,
    jobs: int | None = None,
    executor: Executor | None = None,
    on_start: Callable[[str], None] = ...,
    on_end: Callable[[Outcome], None] = ...,
) -> list[Outcome]: ...


@overload
def convert_many(
    models: Literal["auto"],
    out: str | PathLike[str],
    *,
    source: str | PathLike[str],
    report: bool = False,
    options: ParityOptions = ...,
    jobs: int | None = None,
    executor: Executor | None = None,
    on_start: Callable[[str], None] = ...,
    on_end: Callable[[Row], None] = ...,
) -> FleetSummary: ...


def convert_many(  # noqa: PLR0913 - the options of the commands
    models: str | Sequence[str],
    out: str | PathLike[str],
    *,
    source: str | PathLike[str] | None = None,
    params_dir: str | PathLike[str] | None = None,
    random: int | None = None,
    report: bool = False,
    options: ParityOptions = ParityOptions(),
    jobs: int | None = None,
    executor: Executor | None = None,
    on_start: Callable[[str], None] = ignore,
    on_end: Callable[..., None] = ignore,
) -> list[Outcome] | FleetSummary:
    """Convert many models into one folder, continuing after failures.

    With "auto" and a ``source``, every checkpoint in a folder, a bucket or a list is detected and converted.
    A model or a checkpoint is skipped if it has a complete conversion of the same parameters with a proof
    that is at least as strong. An interruption ends the running conversions.

    The conversions run in processes that are spawned: a script must call this function below
    ``if __name__ == "__main__":``.

    Args:
        models: names or patterns such as "gluon_resnet50_*"; "auto" with ``source``.
        out: output folder, created if it does not exist; with ``source`` also the URL of a bucket's prefix.
        source: a folder, the URL of a bucket's prefix, or a list of checkpoints as CSV or JSON lines.
        params_dir: folder of ``.params`` files, each named by its model; by default GluonCV's cache, then
            downloads.
        random: seed of random parameters, instead of files.
        report: whether to write a parity report for each checkpoint, which compares it once more.
        options: how to prove each conversion.
        jobs: number of conversions at a time; by default half the number of CPU cores, with ``source`` all of
            them. With an executor, the number of tasks that it is given at a time.
        executor: what runs the conversions; it sends functions and requests to Python processes with this
            package. By default, processes on this machine.
        on_start: called with the name of each model or checkpoint.
        on_end: called with the outcome of each model, or the row of each checkpoint.

    Returns:
        The outcomes, in the order of the models; with ``source`` a summary with a row for each checkpoint.

    Raises:
        UsageError: if an argument is not valid.
        CatalogError: if a pattern matches no model.
        StorageError: if the source cannot be listed, or the output folder cannot be written to.
    """
    if source is not None:
        given = {"params_dir": params_dir, "random": random}
        _require_auto(models, [name for name, value in given.items() if value is not None])
        request = fleet.FleetRequest(
            source=source, out=out, options=options, report=report, jobs=jobs, executor=executor
        )
        return fleet.run(request, on_start, on_end)
    if report:
        raise UsageError("`report` requires `source`", "report", "source")
    if params_dir is not None and random is not None:
        raise UsageError("`params_dir` and `random` cannot be used together", "params_dir", "random")
    batch = BatchRequest(
        models=catalog.select([models] if isinstance(models, str) else models),
        out=to_path(out),
        params_dir=optional_path(params_dir),
        seed=random,
        options=options,
        jobs=max(1, cores() // 2) if jobs is None else jobs,
        executor=executor,
    )
    return run(batch, on_start, on_end)


def _require_auto(models: str | Sequence[str], given: list[str]) -> None:
    """Check that the models of a source are detected, and that no other parameters are given.

    Raises:
        UsageError: if they are named, or with the argument.
    """
    if models != AUTO:
        raise UsageError(f"`source` requires the model {AUTO}, found {models!r}", "source")
    if given:
        raise UsageError(f"`{given[0]}` and `source` cannot be used together", given[0], "source")


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
    # An executor cannot be sent to its own workers.
    batch = replace(request, executor=None)
    requests = [ModelRequest(model=model, batch=batch) for model in request.models]
    outcomes: dict[str, Outcome] = {}

    def started(one: ModelRequest) -> None:
        on_start(one.model.name)

    with contextlib.ExitStack() as stack:
        executor = request.executor or stack.enter_context(execution.local(request.jobs))
        for one, result in execution.run(_convert, requests, executor, request.jobs, started):
            name = one.model.name
            outcomes[name] = _failure(name, result) if isinstance(result, BaseException) else result
            on_end(outcomes[name])
    return [outcomes[model.name] for model in request.models]


def _failure(model: str, error: BaseException) -> Outcome:
    return Outcome(model, Status.failed, reason=execution.reason(error).removeprefix(f"{model}: "))


def summary(outcomes: list[Outcome]) -> Summary:
    """Return the outcomes for programs."""
    return Summary(
        counts=count(outcome.status for outcome in outcomes),
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


def _convert(one: ModelRequest) -> Outcome:
    """Convert a model, unless it is already converted.

    Raises:
        ConversionError: if the conversion fails.
    """
    request, model = one.batch, one.model
    source, key = _source(request, model)
    manifest = find_conversion(request.out, model, key, request.options)
    if manifest is not None:
        return Outcome(model.name, Status.skipped, manifest)
    result = conversion.run(ConversionRequest(source=source, out=request.out, options=request.options))
    return Outcome(model.name, Status.converted, result.manifest)


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
