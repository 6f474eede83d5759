"""Convert the checkpoints of a fleet: those in a folder, a bucket or a list."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec.structs

from converter.commands import fleet_conversion
from converter.commands.arguments import to_text
from converter.commands.fleet_conversion import CheckpointRequest
from converter.errors import SourceError, UsageError
from converter.fleet import checkpoint_list, execution, index, inventory, journals, resumption, rows
from converter.fleet.execution import ignore
from converter.fleet.journals import Journal, Journals
from converter.fleet.processes import cores
from converter.fleet.rows import FleetSummary, Row, Verdict
from converter.parity import report
from converter.parity.options import ParityOptions
from converter.storage import disk, stores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Executor
    from os import PathLike

    from converter.fleet.sources import CheckpointSource
    from converter.storage.store import Store

AHEAD = 2  # requests per process that are submitted: one that is done need not wait for us


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest:
    """What to convert and how.

    Attributes:
        source: a folder, the URL of a bucket's prefix, or a list of checkpoints.
        out: the output, a folder or the URL of a bucket's prefix.
        options: how to prove each conversion.
        report: whether to write a parity report for each checkpoint.
        jobs: number of conversions at a time; by default the number of CPU cores. With an executor, the
            number of tasks that are submitted and not finished.
        executor: what runs the conversions, by default processes on this machine.
    """

    source: str | PathLike[str]
    out: str | PathLike[str]
    options: ParityOptions = ParityOptions()
    report: bool = False
    jobs: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        """Check the number of jobs, and that a report has a reference."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"`jobs`: expected at least 1, found {self.jobs}", "jobs")
        if self.report and self.options.reference == "none":
            raise UsageError("`report` requires a reference; `reference` is none", "report", "reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What there is to do.

    Attributes:
        done: rows of the sources that are already converted.
        pending: the other sources, each with an earlier conversion if that is complete.
    """

    done: Sequence[Row]
    pending: Sequence[tuple[CheckpointSource, Row | None]]


def run(
    request: FleetRequest,
    on_start: Callable[[str], None] = ignore,
    on_end: Callable[[Row], None] = ignore,
    on_plan: Callable[[int], None] = ignore,
) -> FleetSummary:
    """Convert a fleet.

    Args:
        request: what to convert and how.
        on_start: called with the name of each checkpoint that is submitted.
        on_end: called with the row of each checkpoint.
        on_plan: called once with the number of checkpoints.

    Raises:
        SourceError: if there is no checkpoint.
        StorageError: if the source cannot be listed, if the output cannot be read or written, or if it has an
            `index.json` that no run wrote.
        ProcessesError: if the executor loses its tasks.
    """
    if request.report:
        report.require_libraries()
    out = _open_output(request.out)
    found = find(to_text(request.source))
    on_plan(len(found))
    journal, journals_of_out = Journal(out), Journals(out)
    index.require_own(out, journals_of_out)
    journal.write()  # before any work, so that an output that cannot be written is refused
    plan = _plan(request, found, out, journals_of_out)
    finished: dict[str, Row] = {}

    def finish(row: Row) -> None:
        finished[row.source] = row
        on_end(row)

    for row in plan.done:
        journal.add(Row(source=row.source, verdict=Verdict.skipped, finished=journals.now()))
        finish(row)
    try:
        # An interruption closes the executor at once, wherever it arrives.
        with contextlib.closing(_convert(request, plan, out, on_start)) as converted:
            for row in converted:
                journal.add(row)
                finish(row)
    finally:
        journal.write()
    index.write(out, journals_of_out)
    ordered = tuple(finished[source.name] for source in found)
    place = f"{out.url}/{index.INDEX}" if out.folder is None else str(out.folder / index.INDEX)
    return FleetSummary(counts=rows.count(row.verdict for row in ordered), index=place, sources=ordered)


def find(location: str) -> list[CheckpointSource]:
    """Return the checkpoints in a folder, a bucket or a list.

    Raises:
        SourceError: if there is none, or if a list is not valid.
        StorageError: if the place cannot be listed.
    """
    if checkpoint_list.is_list(location):
        found = checkpoint_list.read(location)
    else:
        store = stores.open_store(location)
        if store.folder is not None and not disk.is_folder(store.folder):
            reason = "not a folder, nor a list" if disk.exists(store.folder) else "not found"
            raise SourceError(
                f"{location}: {reason}: expected a folder, or a list: {', '.join(checkpoint_list.SUFFIXES)}"
            )
        listing = store.listing()
        found = inventory.find(store.url, listing.entries, listing.refused)
    if not found:
        raise SourceError(
            f"{location}: contains no checkpoint: no .params, .mar, .tar, .tar.gz, .tgz or .zip"
        )
    return found


def _open_output(location: str | PathLike[str]) -> Store:
    """Open the output.

    Raises:
        StorageError: if it is a folder that cannot be written to.
    """
    store = stores.open_store(to_text(location))
    if store.folder is not None:
        disk.require_writable(store.folder)
    return store


def _plan(
    request: FleetRequest, found: Sequence[CheckpointSource], out: Store, of_out: Journals
) -> FleetPlan:
    """Compare the sources with the journals and the files in the output."""
    states: Mapping[str, Row] = of_out.merge(of_out.versions())
    present = {file.name: file.size for file in out.entries()} if states else {}
    complete = {
        name: row
        for name, row in states.items()
        if resumption.is_complete(row, present, request.options, report=request.report)
    }
    done, pending = [], []
    for source in found:
        row = complete.get(source.name)
        if row is not None and resumption.is_unchanged(source, row):
            done.append(msgspec.structs.replace(row, verdict=Verdict.skipped))
        else:
            pending.append((source, row))
    return FleetPlan(done=done, pending=pending)


def _convert(
    request: FleetRequest, plan: FleetPlan, out: Store, on_start: Callable[[str], None]
) -> Generator[Row, None, None]:
    """Yield the row of each pending source, as they finish."""
    jobs = request.jobs or cores()
    requests = (
        CheckpointRequest(
            source=source, out=out.url, options=request.options, report=request.report, previous=row
        )
        for source, row in plan.pending
    )

    def started(one: CheckpointRequest) -> None:
        on_start(one.source.name)

    with contextlib.ExitStack() as stack:
        executor = request.executor or stack.enter_context(execution.local(jobs))
        limit = jobs if request.executor else AHEAD * jobs
        results = execution.run(fleet_conversion.convert, requests, executor, limit, started)
        for one, result in results:
            yield msgspec.structs.replace(_row(one.source, result), finished=journals.now())


def _row(source: CheckpointSource, result: Row | BaseException) -> Row:
    if isinstance(result, BaseException):
        return fleet_conversion.failure(source, execution.reason(result))
    return result
