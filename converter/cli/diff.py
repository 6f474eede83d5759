"""`gluon2torch diff`: compare two checkpoints tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
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
        result = diffing.diff(first, second)
    if as_json:
        console.print_json({"identical": result.identical, **msgspec.to_builtins(result)})
    else:
        _show(result, console.lines())
    raise typer.Exit(not result.identical)


def _show(result: CheckpointDiff, screen: Console) -> None:
    """Print a row for each tensor that differs, and the verdict."""
    if not result.identical:
        table = Table(Column("tensor", overflow="fold"), "difference", box=box.SIMPLE_HEAD)
        for name in result.only_first:
            table.add_row(console.word(name), "only in the first")
        for name in result.only_second:
            table.add_row(console.word(name), "only in the second")
        for tensor in result.different:
            table.add_row(console.word(tensor.name), str(tensor))
        screen.print(table)
    names = f"; names by {result.mapping}, without {result.counters} counters" if result.mapping else ""
    if result.identical:
        screen.print(f"[green]identical[/]  {result.compared} tensors, bit for bit{names}")
        return
    screen.print(
        f"[red]different[/]  {len(result.different)} of {result.compared} tensors differ, "
        f"{len(result.only_first)} only in the first, {len(result.only_second)} only in the second{names}"
    )
