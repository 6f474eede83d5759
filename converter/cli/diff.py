"""`gluon2torch diff`: compare two checkpoints tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.diff import CheckpointDiff

HELP = "Checkpoint: .safetensors, .pth or .params."


def diff(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help=HELP, dir_okay=False)],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help=HELP, dir_okay=False)],
    *,
    key: options.Key = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare two checkpoints tensor by tensor.

    Gluon names are mapped to PyTorch names if the checkpoints need it. No pickle
    of a .pth is executed.

    Exits with 0 if the checkpoints are identical, 1 if they differ or cannot be
    read, 2 on a usage error.
    """
    from converter.commands import diff as command

    with console.refusals(verbose=verbose):
        result = command.diff(first, second, key=key)
    if as_json:
        console.print_json(command.document(result))
    else:
        _show(result, console.lines())
    raise typer.Exit(not result.identical)


def _show(result: CheckpointDiff, screen: Console) -> None:
    """Print a row for each tensor that differs, and the verdict."""
    if not result.identical:
        table = Table(Column("tensor", overflow="fold"), "difference", box=box.SIMPLE_HEAD)
        for name in result.only_first:
            table.add_row(console.word(name), "only in FIRST")
        for name in result.only_second:
            table.add_row(console.word(name), "only in SECOND")
        for tensor in result.different:
            table.add_row(console.word(tensor.name), str(tensor))
        screen.print(table)
    for side, location in zip(("FIRST", "SECOND"), map(str, result.state_dicts), strict=True):
        if location:
            screen.print(f"[bold]read[/]       {side}: {console.word(location)}")
    names = (
        f"; names mapped by {result.mapping}, {result.counters} BatchNorm counters ignored"
        if result.mapping
        else ""
    )
    if result.identical:
        screen.print(f"[green]identical[/]  {result.compared} tensors, bit for bit{names}")
        return
    screen.print(
        f"[red]different[/]  {len(result.different)} of {result.compared} tensors differ, "
        f"{len(result.only_first)} only in FIRST, {len(result.only_second)} only in SECOND{names}"
    )
