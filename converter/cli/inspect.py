"""`gluon2torch inspect`: describe a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.inspection import Inspection
    from converter.commands.tensor_statistics import TensorSummary

GLUON = {"ndarray-list", "npz"}  # the containers of Gluon parameters


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weight file: .params, also in an archive, .safetensors or .pth.",
            dir_okay=False,
        ),
    ],
    *,
    key: options.Key = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole file: SHA-1, publication, statistics.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Describe a weight file: container, naming style, model, head, types and size.

    Only headers are read, which is fast for any size; a .pth is read completely.
    --full reads everything.

    Exits with 0 if the file can be read, 1 with the reason if not, 2 on a usage
    error.
    """
    from converter.commands import inspection

    with console.refusals(verbose=verbose), console.progress() as progress:
        result = inspection.inspect(file, key=key, full=full, progress=progress)
    if as_json:
        console.print_json(inspection.document(result))
    else:
        _show(result, console.lines(), verbose=verbose)


def _show(result: Inspection, screen: Console, *, verbose: bool) -> None:
    container = ", ".join(filter(None, (result.archive, result.container)))
    records = f", {' and '.join(result.records)} records" if result.records else ""
    models = " or ".join(map(str, result.models)) or _unknown(result)
    lines = {
        "file": f"{result.file}, {result.size:,} bytes",
        "container": container + records,
        "names": result.dialect and result.dialect + (f", {result.prefix}" if result.prefix else ""),
        "read": str(result.location),
        "model": models if result.tensors is not None else None,
        "tensors": result.tensors
        and f"{result.tensors} ({', '.join(f'{count} {dtype}' for dtype, count in result.dtypes)}), "
        f"{result.numbers:,} values",
        "SHA-1": result.sha1
        and f"{result.sha1}, "
        + (f"published by GluonCV as {result.official}" if result.official else "not published by GluonCV"),
        "graph": _graph(result),
        "note": result.remark,
    }
    for name, text in lines.items():
        if text:
            screen.print(f"[bold]{name:10}[/] {console.plain(console.brief(text, verbose=verbose))}")
    if result.statistics is not None:
        screen.print(_statistics(result.statistics))
        for row in result.statistics:
            if row.not_finite:
                screen.print(
                    f"[red]not finite[/] {row.part} {console.word(row.role)}: {row.not_finite:,} values"
                )


def _unknown(result: Inspection) -> str:
    """Describe a model that is not covered, or else the closest one that is."""
    if result.official:
        from converter.networks import gluoncv_models

        return gluoncv_models.not_covered(str(result.official))
    return f"unknown; closest match: {result.nearest}"


def _graph(result: Inspection) -> str | None:
    """Describe the graph of Gluon parameters, or its absence."""
    if result.graph_differences:
        return "\n  ".join(result.graph_differences)
    if result.graph:
        return f"{result.graph}: " + (
            "operators, wiring and settings match" if result.models else "not the graph of a known model"
        )
    return "none found" if result.container in GLUON else None


def _statistics(rows: tuple[TensorSummary, ...]) -> Table:
    table = Table("part", Column("role", no_wrap=True), box=box.SIMPLE_HEAD)
    for column in ("values", "mean", "std", "min", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        figures = (f"{value:.2g}" for value in (row.mean, row.deviation, row.least, row.largest))
        table.add_row(row.part, console.word(row.role), f"{row.numbers:,}", *figures)
    return table
