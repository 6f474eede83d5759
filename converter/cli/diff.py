"""`gluon2torch diff`: compare two checkpoints tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter import names
from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.diff import CheckpointDiff
    from converter.formats.array_comparison import TensorDiff

MAX_ROWS = 20  # of the table without --verbose
WIDTH = 11  # of a label
SIDES = ("FIRST", "SECOND")
PARAMS = {".params", ".gz", ".zip", ".mar", ".tar"}  # how the names of Gluon's files end
HELP = "Checkpoint: .safetensors, .pth or .params, or a folder of one of the first two."


def diff(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help=HELP)],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help=HELP)],
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
        _show(result, screen := console.lines(), verbose=verbose)
        console.print_next(screen, _next(result, first, second), WIDTH)
    raise typer.Exit(not result.identical)


def _show(result: CheckpointDiff, screen: Console, *, verbose: bool) -> None:
    """Print the verdict, where the tensors are, and a row for each that differs."""
    if result.identical:
        screen.print(f"[green]identical[/]  {result.compared} tensors, bit for bit")
    else:
        screen.print(
            f"[red]different[/]  {len(result.different)} of {result.compared} tensors differ, "
            f"{len(result.only_first)} only in FIRST, {len(result.only_second)} only in SECOND"
        )
    if result.mapping:
        ignored = f"{result.counters} BatchNorm counters ignored"
        screen.print(f"[bold]names[/]      mapped by {console.word(result.mapping)}, {ignored}")
    for side, location in zip(SIDES, map(str, result.state_dicts), strict=True):
        if location:
            screen.print(f"[bold]read[/]       {side}: {console.word(location)}")
    if not result.identical:
        _show_differences(result, screen, verbose=verbose)


def _show_differences(result: CheckpointDiff, screen: Console, *, verbose: bool) -> None:
    """Print a table that fits into 80 columns, of at most ``MAX_ROWS`` rows unless ``verbose``."""
    rows = [
        (pattern, f"only in {side}", "")
        for side, tensors in zip(SIDES, (result.only_first, result.only_second), strict=True)
        for pattern in names.collapse(tensors)
    ]
    other_shapes_first = sorted(result.different, key=lambda tensor: tensor.count is not None)
    rows += [(tensor.name, *_cells(tensor)) for tensor in other_shapes_first]
    table = Table(Column("tensor", overflow="fold"), "differs", "by up to", box=box.SIMPLE_HEAD)
    shown = rows if verbose else rows[:MAX_ROWS]
    for row in shown:
        table.add_row(*map(console.word, row))
    screen.print(table)
    if len(shown) < len(rows):
        screen.print(f"  and {len(rows) - len(shown)} more: --verbose")


def _cells(tensor: TensorDiff) -> tuple[str, str]:
    """Return what differs, and the largest difference."""
    if tensor.count is None:
        return " vs ".join(
            f"shape {'×'.join(map(str, shape)) or 'of a scalar'}" for shape in tensor.shapes
        ), ""
    first, second = tensor.dtypes
    types = f"{first} vs {second}: " if first != second else ""
    if not tensor.count:
        return f"{types}equal values", ""
    largest = "not finite" if tensor.max_abs is None else f"{tensor.max_abs:.1e}"
    return f"{types}{tensor.count:,} of {tensor.size:,}", largest if tensor.max_abs != 0 else "0 in float64"


def _next(result: CheckpointDiff, first: Path, second: Path) -> list[object]:
    """Return the likely next command: the networks of Gluon's and PyTorch's file are compared by layer."""
    gluon, torch = (second, first) if second.suffix in PARAMS else (first, second)
    if result.network and gluon.suffix in PARAMS:
        return ["gluon2torch", "parity", result.network, "--params", gluon, "--weights", torch]
    return ["gluon2torch", "inspect", second, *([] if result.identical else ["--full"])]
