"""`gluon2torch convert-zoo`: convert many models in parallel."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from converter.choices import ReferenceChoice
from converter.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.commands.batch import Outcome

SUMMARY = "summary.json"
COLOURS = {"converted": "green", "skipped": "blue", "failed": "red"}


def convert_zoo(  # noqa: PLR0913 - the options of the command line
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Output folder; created if missing.", file_okay=False)
    ],
    *,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Model name or pattern, such as 'gluon_resnet50_*'; repeatable.",
            show_default="all",
            autocompletion=options.complete_model,
        ),
    ] = None,
    params_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of .params files, each named by its model.",
            show_default="GluonCV's cache, then download",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    random: options.Random = None,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of models to convert at a time.", show_default="half the cores"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the summary on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert many models, or all, into one folder.

    Continues after a failure and skips complete output. Ends with a table and
    writes OUT/summary.json.

    Exits with 0 if all models are converted, 1 if any failed, 2 on a usage error.
    """
    from converter.commands import batch
    from converter.networks import catalog
    from converter.storage import disk

    with console.refusals(verbose=verbose):
        names = [model.name for model in catalog.select(models or ["*"])]
        with _progress(len(names)) as (on_start, on_end):
            outcomes = batch.convert_many(
                names,
                out,
                params_dir=params_dir,
                random=random,
                options=options.parity_options(reference, size, dtype, gluon_python),
                jobs=jobs,
                on_start=on_start,
                on_end=on_end,
            )
        summary = batch.summary(outcomes)
        text = console.to_json(summary)
        disk.write_text(out / SUMMARY, text + "\n")
        if as_json:
            typer.echo(text)
        _show(outcomes, summary.counts, Console(stderr=as_json, emoji=False), verbose=verbose)
        failed = next((outcome.model for outcome in outcomes if outcome.status is batch.Status.failed), None)
        following = ["convert", failed, out] if failed else ["gluon2torch", "verify", out]
        console.print_next(console.lines(stderr=as_json), following)
    raise typer.Exit(any(outcome.status is batch.Status.failed for outcome in outcomes))


class _CountColumn(MofNCompleteColumn):
    """The number of models that are done; nothing for a model, which is not divided into steps."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[Outcome], None]]]:
    """Show the overall progress and a line for each running model on stderr, if it is a terminal."""
    screen = Console(stderr=True, emoji=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _CountColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as bars:
        overall = bars.add_task("all", total=total)
        tasks = {}

        def on_start(model: str) -> None:
            tasks[model] = bars.add_task(model, total=None)

        def on_end(outcome: Outcome) -> None:
            bars.remove_task(tasks[outcome.model])
            bars.advance(overall)

        yield on_start, on_end


def _show(outcomes: list[Outcome], counts: dict[str, int], screen: Console, *, verbose: bool) -> None:
    """Print a row for each model, and the reason for each failure."""
    table = Table("model", "result", box=box.SIMPLE_HEAD)
    table.add_column("file", overflow="fold")
    table.add_column("reference")
    for outcome in outcomes:
        manifest = outcome.manifest
        cells = ("", "")
        if manifest is not None:
            parity = manifest.parity
            graph = " (graph)" if parity.definition == "graph" else ""
            proof = f"{parity.reference}{graph}" if parity.proven else "unproven"
            cells = (manifest.artifact.file, proof)
        colour = COLOURS[outcome.status]
        table.add_row(outcome.model, f"[{colour}]{outcome.status.value}[/]", *map(console.plain, cells))
    screen.print(table)
    plain = console.lines(stderr=screen.stderr)
    for outcome in outcomes:
        if outcome.reason:
            reason = console.brief(outcome.reason, verbose=verbose)
            plain.print(f"[red]failed[/]  {outcome.model}: {console.plain(reason)}")
    plain.print(", ".join(f"{count} {status}" for status, count in counts.items()))
