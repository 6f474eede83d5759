"""`gluon2torch list`: list the models and their published figures."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from converter.cli import console, options


def list_models(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="Model name or pattern, such as 'gluon_resnext*'.",
            show_default="all models",
            autocompletion=options.complete_model,
        ),
    ] = "*",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array on stdout.")] = False,
) -> None:
    """List the supported models with their parameters and published accuracy.

    Exits with 0 if a model matches, 1 with the reason if none does, 2 on a usage
    error.
    """
    from converter.networks import catalog

    with console.refusals():
        models = catalog.select([pattern])
        if as_json:
            from converter.networks import figures

            console.print_json([figures.document(model) for model in models])
            return
    table = Table(
        box=box.SIMPLE_HEAD, caption="ImageNet-1k accuracy and SHA-1 of the .params file, as published"
    )
    table.add_column(
        "model", overflow="fold", no_wrap=True, min_width=max(len(model.name) for model in models)
    )
    for column in ("parameters", "top-1", "top-5", "SHA-1"):
        table.add_column(column, justify="right")
    for model in models:
        entry = model.entry
        accuracy = ("—" if figure is None else f"{figure:.2f}" for figure in (entry.top1, entry.top5))
        table.add_row(model.name, f"{model.parameters:,}", *accuracy, entry.params_sha1[:8] or "—")
    Console().print(table)
    console.print_next(console.lines(), ["gluon2torch", "summary", models[0].name])
