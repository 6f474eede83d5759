"""`gluon2torch summary`: list the layers of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.summary import NetworkSummary


def summary(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Model name, as shown by `gluon2torch list`.",
            autocompletion=options.complete_model,
        ),
    ],
    *,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="H[xW]",
            show_default="the model's own",
            help="Input size, height x width in pixels.",
        ),
    ] = None,
    backbone: Annotated[bool, typer.Option("--backbone", help="Leave out the head.")] = False,
    output_stride: Annotated[
        options.OutputStrideOption | None,
        typer.Option(help="Output stride of the network; 8 or 16 if it is dilated.", show_default="32"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
) -> None:
    """List the layers of a model: output shapes, parameters and multiply-adds.

    The figures are computed from the model's hyper-parameters: no weights are
    read, and nothing is run.

    Exits with 0 on success, 1 with the reason if there is no such model, 2 on a
    usage error.
    """
    from converter.commands import summary as command

    pixels = None if size is None else options.read_size(size)
    with console.refusals():
        result = command.summary(
            name, size=pixels, backbone=backbone, output_stride=options.stride(output_stride)
        )
    if as_json:
        console.print_json(result)
    else:
        _show(result, console.lines())


def _show(result: NetworkSummary, screen: Console) -> None:
    """Print a row for each layer, and the sums."""
    screen.print(f"[bold]model[/]   {result.description}")
    screen.print(f"[bold]input[/]   {_shape(result.input)}")
    table = Table(Column("layer", overflow="fold"), "kind", box=box.SIMPLE_HEAD)
    for column in ("output", "parameters", "multiply-adds"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in result.layers:
        numbers = (f"{number:,}" if number else "" for number in (layer.parameters, layer.multiply_adds))
        table.add_row(layer.name, layer.kind, _shape(layer.shape), *numbers)
    screen.print(table)
    screen.print(
        f"[bold]total[/]   {result.parameters:,} parameters, {result.multiply_adds:,} multiply-adds, "
        f"{result.activations:,} activations"
    )
    screen.print(f"[bold]counted[/] {result.convention}")
    console.print_next(screen, ["convert", result.model, "OUT"])


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
