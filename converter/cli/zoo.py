"""`gluon2torch convert-zoo`: convert many models in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from converter.choices import ReferenceChoice
from converter.cli import console, options, outcomes

if TYPE_CHECKING:
    from converter.commands.batch import Outcome

SUMMARY = "summary.json"


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
    as_json: outcomes.Json = False,
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
        with outcomes.progress(len(names)) as bars:
            results = batch.convert_many(
                names,
                out,
                params_dir=params_dir,
                random=random,
                options=options.parity_options(reference, size, dtype, gluon_python),
                jobs=jobs,
                on_start=bars.start,
                on_end=lambda outcome: bars.end(outcome.model),
            )
        summary = batch.summary(results)
        text = console.to_json(summary)
        disk.write_text(out / SUMMARY, text + "\n")
        if as_json:
            typer.echo(text)
        lines = [_line(outcome) for outcome in results]
        outcomes.show("model", lines, summary.counts, Console(stderr=as_json, emoji=False), verbose=verbose)
        failed = next((each.model for each in results if each.status is batch.Status.failed), None)
        following = ["convert", failed, out] if failed else ["gluon2torch", "verify", out]
        console.print_next(console.lines(stderr=as_json), following)
    raise typer.Exit(failed is not None)


def _line(outcome: Outcome) -> outcomes.OutcomeLine:
    manifest = outcome.manifest
    parity = None if manifest is None else manifest.parity
    return outcomes.OutcomeLine(
        name=outcome.model,
        verdict=outcome.status.value,
        file="" if manifest is None else manifest.artifact.file,
        proof="" if parity is None else outcomes.proof(parity.reference, parity.definition),
        reason=outcome.reason,
    )
