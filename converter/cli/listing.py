"""`gluon2torch list`: list GluonCV's models and their families, with published figures."""

from __future__ import annotations

import functools
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from converter.choices import Task  # noqa: TC001 - typer reads the annotation
from converter.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.commands.listing import FamilyOverview
    from converter.networks.families import Family
    from converter.networks.zoo import ZooModel

SHOWN = 3  # figures of a table of GluonCV's
DIGITS = 8  # of a SHA-1
NOTHING = "—"
FULL = 200  # columns, more than any table has
NATIVE = "networks of resnext_torch with timm's and torchvision's tensor names, compared with GluonCV"
GENERATED = "modules from recorded graphs of GluonCV's networks, compared with the graphs"
CAPTION = "the others are not converted by name; gluon2torch list --family NAME says why"


def list_models(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Model name or pattern, such as 'gluon_resnext*' or 'mobilenet*'.",
            show_default="a table of the families",
            autocompletion=options.complete_listed,
        ),
    ] = None,
    *,
    task: Annotated[Task | None, typer.Option(help="List the models for this task.")] = None,
    family: Annotated[
        str | None,
        typer.Option(help="List the models of this family.", autocompletion=options.complete_family),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON array of models on stdout, by default of the native ones."),
    ] = False,
) -> None:
    """List the models of GluonCV: what each becomes, its figures and SHA-1.

    Without PATTERN, --task and --family, lists the families. A native model
    becomes a network of resnext_torch. A generated one becomes a PyTorch module
    from a recorded graph.

    Exits with 0 if a model matches, 1 with the reason if none does, 2 on a usage
    error.
    """
    from converter.commands import listing

    by_default = (pattern, task, family) == (None, None, None)
    with console.refusals():
        if by_default and not as_json:
            _show_families(listing.overview(), Console(emoji=False))
            return
        models = listing.select("*" if pattern is None else pattern, task=task, family=family)
        if as_json:
            from converter.commands import listing_document

            listed = [model for model in models if model.native or not by_default]
            console.print_json([listing_document.document(model) for model in listed])
            return
    _show_models(models, Console(emoji=False))


def _show_families(families: Sequence[FamilyOverview], screen: Console) -> None:
    """Print a row for each family, grouped by task."""
    from converter.networks.zoo import TargetKind

    table = _empty_table(CAPTION)
    table.add_column("family", no_wrap=True)
    for column in ("models", TargetKind.native, TargetKind.generated):
        table.add_column(column, justify="right")
    table.add_column("example", overflow="fold")
    for task, rows in groupby(families, lambda family: family.description.task):
        table.add_row(f"[bold]{task}[/]")
        for row in rows:
            counts = (row.targets.total(), row.targets[TargetKind.native], row.targets[TargetKind.generated])
            table.add_row(f"  {row.name}", *(str(count or "") for count in counts), row.example)
        table.add_section()
    _print(table, screen)
    console.print_next(console.lines(), ["gluon2torch", "list", "--family", families[0].name])


def _show_models(models: Sequence[ZooModel], screen: Console) -> None:
    """Print the models, family by family."""
    plain = console.lines()
    for _, members in groupby(models, lambda model: model.family):
        family = sorted(members, key=_group)
        plain.print(f"[bold]{_title(family[0].description)}[/]")
        for _, group in groupby(family, _group):
            rows = list(group)
            plain.print(_outcome(rows[0]))
            _print(_table(rows), screen)
    for command in _next_commands(min(models, key=_group)):
        console.print_next(plain, command)


def _title(family: Family) -> str:
    number = f", arXiv:{family.arxiv}" if family.arxiv else ""
    return f"{family.title}, {family.task}: {family.paper}{number}"


def _group(model: ZooModel) -> tuple[bool, bool, str]:
    """Return a key that puts native models first, and those that are not converted last, by the reason."""
    return model.native is None, not model.convertible, model.reason


def _outcome(model: ZooModel) -> str:
    """Return what models like this one become."""
    if model.reason:
        return f"not by name: {model.reason}"
    return f"{model.target}: {NATIVE if model.native else GENERATED}"


def _table(models: Sequence[ZooModel]) -> Table:
    """Return a row for each model, with the columns that have values."""
    data = dict.fromkeys(model.figures.data for model in models if model.figures)
    table = _empty_table(f"figures as published by GluonCV: {'; '.join(data)}" if data else None)
    widest = max(len(model.name) for model in models)
    table.add_column("model", overflow="fold", no_wrap=True, min_width=widest)
    columns = _columns(models)
    for heading in columns:
        table.add_column(heading, justify="right", overflow="fold")
    for model in models:
        table.add_row(model.name, *(cell(model) for cell in columns.values()))
    return table


def _columns(models: Sequence[ZooModel]) -> dict[str, Callable[[ZooModel], str]]:
    """Return the headings of the columns, each with a function that returns a model's value."""
    metrics = [metric for model in models if model.figures for metric in [*model.figures.values][:SHOWN]]
    columns: dict[str, Callable[[ZooModel], str]] = {
        "parameters": lambda model: NOTHING if model.parameters is None else f"{model.parameters:,}",
        **{metric: functools.partial(_figure, metric) for metric in dict.fromkeys(metrics)},
        "SHA-1": lambda model: model.sha1[:DIGITS] or NOTHING,
        "in timm": lambda model: model.timm or NOTHING,
        "in torchvision": lambda model: model.torchvision or NOTHING,
    }
    return {
        heading: cell
        for heading, cell in columns.items()
        if heading == "SHA-1" or any(cell(model) != NOTHING for model in models)
    }


def _figure(metric: str, model: ZooModel) -> str:
    return model.figures.text(metric) if model.figures else NOTHING


def _empty_table(caption: str | None) -> Table:
    return Table(box=box.SIMPLE_HEAD, caption=caption, collapse_padding=True, pad_edge=False)


def _print(table: Table, screen: Console) -> None:
    """Print a table, in its full width unless the screen is a terminal: programs read rows as lines."""
    if not screen.is_terminal:
        full = screen.measure(table, options=screen.options.update(max_width=FULL)).maximum
        screen.width = max(screen.width, full)
    screen.print(table)


def _next_commands(model: ZooModel) -> list[list[str]]:
    """Return the likely next commands."""
    from converter.networks import target_tables

    if model.native:
        return [["gluon2torch", "summary", model.name]]
    if not model.convertible:
        return [["gluon2torch", "list"]]
    convert = ["convert", model.name, "OUT"]
    return [convert, *([*convert, *option.split()] for option in target_tables.options(model.gluon))]
