"""`gluon2torch inspect`: describe a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from converter import names
from converter.cli import console, options
from converter.formats.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from converter.commands.inspection_result import GraphSummary, Inspection
    from converter.commands.tensor_statistics import TensorSummary

MAX_ENTRIES = 50  # lines about the files of a folder
MAX_NAMES = 20  # in a line about a graph
GLUON = {"ndarray-list", "npz"}  # the containers of Gluon parameters


def inspect(  # noqa: PLR0913 - the options of the command line
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weight file (.params, also in an archive, .safetensors or .pth), graph or folder.",
        ),
    ],
    *,
    key: options.Key = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole file: SHA-1, publication, statistics.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="List the parameters that a graph expects, with known sizes.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Describe a file or folder: what it is, and what to do with it.

    Of weights it shows the container, naming style, model, head, types and size,
    of a graph (or its prefix) the inputs, outputs, operators, what cannot be
    converted and the parameters, of a folder the files in it.
    Only headers are read, which is fast for any size; a .pth and a small archive
    are read completely. --full reads everything.

    Exits with 0 if the file can be read, 1 with the reason if not, 2 on a usage
    error.
    """
    from converter.commands import inspection, inspection_document, inspection_verdict
    from converter.networks import target_tables

    with console.refusals(verbose=verbose), console.progress() as progress:
        result = inspection.inspect(file, key=key, full=full, progress=progress)
    if names and result.summary is None:
        raise typer.BadParameter("requires a graph", param_hint="--names")
    if as_json:
        console.print_json(inspection_document.document(result))
    else:
        screen = console.lines()
        _show(result, screen, verbose=verbose, names=names)
        following = inspection_verdict.next_command(result)
        screen.print(f"[blue]next[/]       {console.word(following)}")
        for option in target_tables.options(result.network or ""):
            screen.print(f"[blue]next[/]       {console.word(f'{following} {option}')}")


def _show(result: Inspection, screen: Console, *, verbose: bool, names: bool = False) -> None:
    screen.print(console.word(result.verdict))
    for name, text in (_lines(result) | _graph_lines(result.summary)).items():
        if text:
            screen.print(f"[bold]{name:10}[/] {console.plain(console.brief(text, verbose=verbose))}")
    _show_entries(result, screen)
    if names and result.summary is not None:
        _show_parameters(result.summary, screen)
    if result.statistics is not None:
        screen.print(_statistics(result.statistics))
        for row in result.statistics:
            if row.not_finite:
                screen.print(
                    f"[red]not finite[/] {row.part} {console.word(row.role)}: {row.not_finite:,} values"
                )


def _lines(result: Inspection) -> dict[str, str | None]:
    """Return the description of a weight file, by the labels of its lines."""
    container = ", ".join(filter(None, (result.archive, result.container)))
    records = f", {' and '.join(result.records)} records" if result.records else ""
    models = " or ".join(map(str, result.models)) or result.module or _unknown(result)
    return {
        "file" if result.entries is None else "folder": f"{result.file}, {result.size:,} bytes",
        "container": container + records,
        "names": result.dialect and result.dialect + (f", {result.prefix}" if result.prefix else ""),
        "read": str(result.location),
        **console.wrapping_lines(result.wrapping),
        "images": console.preprocessing(result.preprocessing) if result.preprocessing else None,
        "model": models if result.tensors is not None or result.kind is Kind.graph else None,
        "tensors": _tensors(result),
        "SHA-1": result.sha1
        and f"{result.sha1}, "
        + (f"published by GluonCV as {result.official}" if result.official else "not published by GluonCV"),
        "graph": _graph(result),
        "note": result.remark,
    }


def _unknown(result: Inspection) -> str:
    """Describe a network that is not a native model, or else name the closest model."""
    if result.network:
        return f"GluonCV's {result.network}, from its recorded graph"
    if result.official:
        from converter.networks import unknown_names

        return unknown_names.describe_gluoncv(str(result.official))
    return f"unknown; closest match: {result.nearest}" if result.nearest else "unknown"


def _tensors(result: Inspection) -> str | None:
    if not result.tensors or result.values is None or result.numbers is None:
        return None
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in result.dtypes)
    integers = result.values - result.numbers
    remark = f", {integers:,} of them not floating-point" if integers else ""
    return f"{result.tensors} ({dtypes}), {result.values:,} values{remark}"


def _graph_lines(summary: GraphSummary | None) -> dict[str, str]:
    if summary is None:
        return {}
    return {
        "inputs": _listing(summary.inputs),
        "outputs": _listing(summary.outputs),
        "left out": _left_out(summary),
        "nodes": f"{summary.nodes}, of which {summary.parameters} are parameters",
        "operators": _listing([f"{count} {name}" for name, count in summary.operators]),
        "refused": "\n  ".join(
            f"{each.operator}: {each.reason} (nodes: {len(each.nodes)}, first {each.nodes[0]})"
            for each in summary.unsupported
        ),
        "training": summary.obstacle,
    }


def _left_out(summary: GraphSummary) -> str:
    """Describe the parts of a graph that are not converted."""
    parts = {
        "labels": _listing(summary.labels),
        "outputs for training": _listing(summary.dropped),
        "casts between floating types": str(summary.casts or ""),
    }
    return "; ".join(f"{what}: {text}" for what, text in parts.items() if text)


def _listing(texts: Sequence[str]) -> str:
    more = [f"and {len(texts) - MAX_NAMES} more"] if len(texts) > MAX_NAMES else []
    return ", ".join([*map(names.printable, texts[:MAX_NAMES]), *more])


def _show_parameters(summary: GraphSummary, screen: Console) -> None:
    from converter.graphs import parameter_shapes

    for name, shape in summary.shapes.items():
        screen.print(f"  {console.word(f'{name} {parameter_shapes.describe(shape)}'.rstrip())}")


def _show_entries(result: Inspection, screen: Console) -> None:
    for entry in (result.entries or ())[:MAX_ENTRIES]:
        screen.print(f"  {console.word(entry.name)}: {console.word(entry.what)}")
    more = max(0, len(result.entries or ()) - MAX_ENTRIES)
    if rest := more + result.others:
        screen.print(f"  and {rest} other {'entry' if rest == 1 else 'entries'}")


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
