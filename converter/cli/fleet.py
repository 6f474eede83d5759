"""`gluon2torch convert-many`: convert the checkpoints in a folder, a bucket or a list."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from converter.choices import ReferenceChoice
from converter.cli import console, options, outcomes

if TYPE_CHECKING:
    from converter.fleet.rows import FleetSummary, Row


def convert_many(  # noqa: PLR0913 - the options of the command line
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, URL of a bucket's prefix such as s3://bucket/models, or a list of checkpoints: "
            "a .csv with a column source, or .jsonl.",
            path_type=str,  # completed like a path; a Path would join the slashes of a URL
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="Output folder, created if missing, or the URL of a bucket's prefix.",
            path_type=str,  # completed like a path; a Path would join the slashes of a URL
        ),
    ],
    *,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write a parity report for each checkpoint, which compares it once more; needs the extra "
            "report.",
        ),
    ] = False,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of checkpoints to convert at a time.", show_default="the cores"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Dask scheduler whose workers convert; needs the extra fleet.",
            show_default="processes on this machine",
        ),
    ] = None,
    as_json: outcomes.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert every checkpoint in a folder, a bucket or a list.

    Finds .params files, with their graphs and class names, and archives; detects
    the model of each, converts and proves it. Continues after a failure. A second
    run converts only what is new, has changed or needs a stronger proof. Ends with
    a table and writes OUT/index.json; also index.parquet and overview.html if the
    extras fleet and report are installed.

    Exits with 0 if all checkpoints are converted, 1 if any failed, 2 on a usage
    error.
    """
    from converter.commands import fleet
    from converter.fleet import scheduler as dask

    with console.refusals(verbose=verbose), contextlib.ExitStack() as stack:
        parity = options.parity_options(reference, size, dtype, gluon_python)
        executor, ahead = stack.enter_context(dask.connect(scheduler)) if scheduler else (None, None)
        request = fleet.FleetRequest(
            source=source, out=out, options=parity, report=report, jobs=jobs or ahead, executor=executor
        )
        with outcomes.progress() as bars:
            summary = fleet.run(request, bars.start, lambda row: bars.end(row.source), bars.plan)
        if as_json:
            typer.echo(console.to_json(summary))
        lines = [_line(row) for row in summary.sources]
        screen = Console(stderr=as_json, emoji=False)
        outcomes.show("source", lines, summary.counts, screen, verbose=verbose)
        screen = console.lines(stderr=as_json)
        screen.print(f"[green]wrote[/]   {console.word(summary.index)}")
        failed = any(line.verdict == outcomes.FAILED for line in lines)
        _print_next(summary, out, screen)
    raise typer.Exit(failed)


def _print_next(summary: FleetSummary, out: str, screen: Console) -> None:
    """Print the command that verifies weights on this machine, if there are any."""
    artifact = next((row.artifact for row in summary.sources if row.artifact), None)
    if artifact is not None and "://" not in out:
        console.print_next(screen, ["gluon2torch", "verify", f"{out.rstrip('/')}/{artifact}"])


def _line(row: Row) -> outcomes.OutcomeLine:
    proof = "unproven" if row.artifact else ""
    return outcomes.OutcomeLine(
        name=row.source,
        verdict=row.verdict.value,
        file=row.artifact or "",
        proof=outcomes.proof(row.proof.reference, row.proof.definition) if row.proof else proof,
        reason=row.reason,
    )
