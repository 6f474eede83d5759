"""`gluon2torch inspect`: what a weight file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter.cli import console

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.inspection import Inspection, TensorSummary

GLUON = {"ndarray-list", "npz"}  # the containers of Gluon's parameters


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A .params file, packed or not, a .safetensors or a .pth.", dir_okay=False)
    ],
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Unpack and read all of it: SHA-1, official or not, statistics.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Say what a weight file is: container, naming style, model, head, types, size.

    Only headers are read, so that any size takes no time; a .pth is read whole. --full reads everything.
    Exits 0 when the file can be read, 1 with the reason when it cannot, 2 when the call is wrong.
    """
    from converter.commands import inspection

    with console.refusals(), console.progress() as progress:
        found = inspection.inspect(file, progress, full=full)
    if as_json:
        typer.echo(json.dumps(inspection.document(found), indent=2, allow_nan=False))
    else:
        _show(found, console.lines())


def _show(found: Inspection, screen: Console) -> None:
    container = ", ".join(filter(None, (found.archive, found.container)))
    records = f", {' and '.join(found.records)} records" if found.records else ""
    models = " or ".join(map(str, found.models)) or f"none that is known; the nearest is {found.nearest}"
    lines = {
        "file": f"{found.file}, {found.size:,} bytes",
        "container": container + records,
        "names": found.dialect and found.dialect + (f", {found.prefix}" if found.prefix else ""),
        "model": models if found.tensors is not None else None,
        "tensors": found.tensors
        and f"{found.tensors}, {', '.join(f'{count} {dtype}' for dtype, count in found.dtypes)}; "
        f"{found.numbers:,} numbers",
        "SHA-1": found.sha1
        and f"{found.sha1}, "
        + (f"as GluonCV published {found.official}" if found.official else "not published by GluonCV"),
        "graph": _graph(found),
        "remark": found.remark,
    }
    for name, text in lines.items():
        if text:
            screen.print(f"[bold]{name:10}[/] {console.plain(text)}")
    if found.statistics is not None:
        screen.print(_statistics(found.statistics))
        for row in found.statistics:
            if row.not_finite:
                screen.print(f"[red]not finite[/] {row.part} {console.word(row.role)}: {row.not_finite:,}")


def _graph(found: Inspection) -> str | None:
    """Return which graph belongs to Gluon's parameters, or that there is none."""
    if found.graph_differences:
        return "\n  ".join(found.graph_differences)
    if found.graph:
        return f"{found.graph}: " + (
            "operators, wiring and settings match" if found.models else "of no known model"
        )
    return "none found" if found.container in GLUON else None


def _statistics(rows: tuple[TensorSummary, ...]) -> Table:
    table = Table("part", Column("role", no_wrap=True), box=box.SIMPLE_HEAD)
    for column in ("numbers", "mean", "deviation", "least", "largest"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        figures = (f"{value:.2g}" for value in (row.mean, row.deviation, row.least, row.largest))
        table.add_row(row.part, console.word(row.role), f"{row.numbers:,}", *figures)
    return table
