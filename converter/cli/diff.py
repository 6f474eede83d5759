"""`gluon2torch diff`: two checkpoints, tensor by tensor."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter.cli import console

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.diff import CheckpointDiff

File = Annotated[Path, typer.Argument(help="A .safetensors, .pth or .params file.", dir_okay=False)]


def diff(
    first: File,
    second: File,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what differs as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Compare two checkpoints tensor by tensor; Gluon's names are mapped to PyTorch's where need be.

    Nothing but tensors is read from a .pth: no pickle is executed.
    Exits 0 when they are identical, 1 when they are not or cannot be read, 2 when the call is wrong.
    """
    from converter.commands import diff as diffing

    with console.refusals():
        found = diffing.diff(first, second)
    if as_json:
        typer.echo(json.dumps({"identical": found.identical, **asdict(found)}, indent=2, allow_nan=False))
    else:
        _show(found, console.lines())
    raise typer.Exit(not found.identical)


def _show(found: CheckpointDiff, screen: Console) -> None:
    """Print a row for every tensor that differs, and the verdict."""
    if not found.identical:
        table = Table(Column("tensor", overflow="fold"), "difference", box=box.SIMPLE_HEAD)
        for name in found.only_first:
            table.add_row(console.word(name), "only in the first")
        for name in found.only_second:
            table.add_row(console.word(name), "only in the second")
        for apart in found.apart:
            table.add_row(console.word(apart.name), str(apart))
        screen.print(table)
    by = f"; names by {found.mapping}, without {found.counters} counters" if found.mapping else ""
    if found.identical:
        screen.print(f"[green]identical[/]  {found.compared} tensors, bit for bit{by}")
        return
    screen.print(
        f"[red]different[/]  {len(found.apart)} of {found.compared} tensors differ, "
        f"{len(found.only_first)} only in the first, {len(found.only_second)} only in the second{by}"
    )
