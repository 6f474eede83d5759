"""`gluon2torch parity`: compare weights with GluonCV's parameters, layer by layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from converter.cli import console, options
from converter.storage import disk

if TYPE_CHECKING:
    from rich.console import Console

    from converter.parity.json_report import Document, LayerRow

WIDTH = 9  # of a label


def parity(  # noqa: PLR0913 - the options of the command line
    name: options.Name,
    *,
    params: options.Params = None,
    epoch: options.Epoch = None,
    symbol: options.Symbol = None,
    output_stride: options.OutputStride = None,
    random: options.Random = None,
    backbone: options.Backbone = False,
    output: options.Output = None,
    inputs: options.Inputs = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint to compare: .safetensors or .pth, from gluon2torch, timm or torchvision; or a "
            "folder that contains one.",
            show_default="the output of `convert`",
        ),
    ] = None,
    key: options.Key = None,
    reference: Annotated[
        options.ReferenceOption,
        typer.Option(help="Reference to compare with; `auto` is GluonCV if it can run, else numpy."),
    ] = options.ReferenceOption.auto,
    size: options.Size = None,
    dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="HTML report to write (pip install 'gluon2torch[report]').",
            dir_okay=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare a checkpoint with GluonCV parameters or a graph, by tensor and by layer.

    In GitHub Actions, it also writes a job summary, and an annotation if they
    differ.

    Exits with 0 if they agree, 1 if they differ or cannot be compared, 2 on a
    usage error.
    """
    from converter.commands import parity_check
    from converter.parity import github, report

    if report_file is not None and report_file.suffix not in {".html", ".htm"}:
        raise typer.BadParameter(
            f"--report writes HTML: expected a file name that ends in .html, found {report_file}"
        )
    with console.refusals(verbose=verbose):
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `convert`
        if report_file is not None:
            report.require_libraries()
            disk.require_writable(report_file.parent)
            disk.require_other(report_file, (params, weights, symbol))
        with console.progress() as progress:
            document = parity_check.check(
                name,
                model_options={
                    "symbol": symbol,
                    "backbone": backbone or None,
                    "output_stride": options.stride(output_stride),
                },
                graph_options={
                    "epoch": epoch,
                    "output": output,
                    "input_shapes": options.input_shapes(inputs),
                },
                params=params,
                random=random,
                weights=weights,
                key=key,
                options=options.parity_options(reference, size, dtype, gluon_python),
                progress=progress,
            )
        if as_json:
            console.print_json(document)
        screen = console.lines(stderr=as_json)
        _show(document, screen, verbose=verbose)
        if report_file is not None:
            report.write(document, report_file)
        given: list[object] = [] if random is None else ["--random", random]
        given += ["--params", params] if params else []
        console.print_next(screen, _next(document, [name, "OUT", *given], params, weights), WIDTH)
        github.write_summary(document, typer.echo if not as_json else _echo_error)
    raise typer.Exit(not document.agrees)


def _echo_error(text: str) -> None:
    typer.echo(text, err=True)


def _show(document: Document, screen: Console, *, verbose: bool) -> None:
    """Print a table of the network's parts, the problems and the verdict."""
    from converter.parity import json_report

    checks = document.checks
    table = Table(
        "part",
        box=box.SIMPLE_HEAD,
        caption="max error: largest difference / standard deviation",
    )
    table.add_column("layers", justify="right")
    for check in checks:
        table.add_column(f"{check.dtype} {check.size}", justify="right")
    for part in dict.fromkeys(row.part for check in checks for row in check.layers):
        rows = [[row for row in check.layers if row.part == part] for check in checks]
        table.add_row(part, str(max(map(len, rows))), *map(_cell, rows))
    screen.print(table)
    tensors = len(document.tensors.different) if verbose else json_report.TENSORS
    for line in json_report.problems(document, tensors):
        screen.print(f"[red]{console.plain(line)}[/]" if line[0] != " " else console.plain(line))
    graph = (
        document.source.symbol or f"none found; compared with GluonCV's own definition of {document.model}"
    )
    screen.print(f"[bold]graph[/]    {console.word(graph)}")
    if location := str(document.state_dict or ""):
        screen.print(f"[bold]read[/]     {console.word(location)}")
    verdict = "[green]agrees[/]  " if document.agrees else "[red]differs[/] "
    screen.print(f"{verdict} {console.plain(json_report.sentence(document))}")


def _next(
    document: Document, conversion: list[object], params: Path | None, weights: Path | None
) -> list[object]:
    """Return the likely next command: to use what agrees, or to see which tensors differ."""
    from converter.networks import catalog

    if document.agrees and weights is None:
        return ["convert", *conversion]
    if document.agrees and document.model in catalog.models():
        return ["gluon2torch", "predict", "IMAGE", "--weights", weights]
    if params is not None and weights is not None:
        return ["gluon2torch", "diff", params, weights]
    return ["gluon2torch", "inspect", weights or params or "FILE"]


def _cell(rows: list[LayerRow]) -> str:
    """Format the largest difference of a part's layers, in red if any layer exceeds its limit."""
    if not rows:
        return "—"
    numbers = [row.relative for row in rows]
    finite = [number for number in numbers if number is not None]
    largest = f"{max(finite):.1e}" if len(finite) == len(numbers) else "∞"
    return largest if all(row.agrees for row in rows) else f"[red]{largest}[/]"
