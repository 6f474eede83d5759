"""The commands: `convert`, and `gluon2torch` with its subcommands. The only place that prints and exits."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from converter import __version__, artifact, catalog, parity, pipeline
from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.progress import Progress as Report

SMALLEST, LARGEST = 32, 2048  # pixels; the networks halve five times
MEGABYTE = 1_000_000
ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
SIGNALLED = 128  # and the signal: the exit status that shells give

convert_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class Reference(StrEnum):
    """What the converted network is proven against."""

    auto = "auto"
    gluon = "gluon"
    none = "none"


class Dtype(StrEnum):
    """The precisions of a proof."""

    float64 = "float64"
    float32 = "float32"


def _size(text: str) -> tuple[int, int]:
    """Read ``224`` or ``97x131``, height first."""
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (SMALLEST <= height <= LARGEST and SMALLEST <= width <= LARGEST):
        raise typer.BadParameter(
            f"{text!r} is no size: write 224, or 97x131 (height x width), {SMALLEST} to {LARGEST} pixels"
        )
    return height, width


@app.callback(invoke_without_command=True)
def gluon2torch(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Bring GluonCV (MXNet) weights to PyTorch, with a numerical proof."""
    if show_version:
        typer.echo(f"gluon2torch {__version__}")
        raise typer.Exit


@app.command("convert")
@convert_app.command()
def convert(  # noqa: PLR0913 - the options of the command line
    name: Annotated[str, typer.Argument(help="The model; `gluon2torch list` shows them all.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to; made if need be.", file_okay=False)],
    *,
    params: Annotated[
        Path | None,
        typer.Option(help="A .params file. Without it: GluonCV's cache, then a download.", dir_okay=False),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(
            metavar="SEED", min=0, help="Make random parameters from a seed and convert them; no network."
        ),
    ] = None,
    reference: Annotated[
        Reference, typer.Option(help="What to prove the result against; `auto` is GluonCV itself.")
    ] = Reference.auto,
    size: Annotated[
        list[Any] | None,
        typer.Option(
            parser=_size,
            metavar="H[xW]",
            show_default="65x95",
            help="Input size of the proof; may be repeated.",
        ),
    ] = None,
    dtype: Annotated[
        list[Dtype] | None,
        typer.Option(metavar="TYPE", show_default="both", help="float64 or float32; may be repeated."),
    ] = None,
    gluon_python: Annotated[
        Path | None,
        typer.Option(envvar="GLUON_PYTHON", help="An interpreter that has MXNet and GluonCV."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Convert a GluonCV network to safetensors, and prove that its outputs are the same.

    Writes OUT/NAME-<sha256[:8]>.safetensors and its manifest, the same name with .json.
    Exits 0 when that is done, 1 with the reason when it was refused, 2 when the call is wrong.
    """
    if params is not None and random is not None:
        raise typer.BadParameter("--params and --random exclude each other")
    if reference is Reference.none and (size or dtype):
        raise typer.BadParameter("--size and --dtype are of the proof, and --reference none makes none")
    with _refusals():
        # Two networks run side by side: threads that wait for work must leave the cores to the other's.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        request = pipeline.Request(
            catalog.find(name),
            out,
            params=params,
            seed=random,
            probes=_probes(size, dtype),
            prove=reference is not Reference.none,
            gluon_python=gluon_python,
        )
        with _progress() as report:
            result = pipeline.convert(request, report)
    if as_json:
        typer.echo(artifact.manifest_bytes(result.manifest), nl=False)
    _summary(result, Console(stderr=as_json, soft_wrap=True, highlight=False))


@app.command("list")
def list_models(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array on stdout.")] = False
) -> None:
    """Show the models that can be converted, with their published figures."""
    with _refusals():
        models = list(catalog.models().values())
    if as_json:
        typer.echo(json.dumps([_figures(model) for model in models], indent=2))
        return
    table = Table("model", box=box.SIMPLE_HEAD, caption="ImageNet-1k accuracy as published by GluonCV")
    for column in ("parameters", "top-1", "top-5", "SHA-1 of the .params"):
        table.add_column(column, justify="right")
    for model in models:
        entry = model.entry
        accuracy = (f"{entry.top1:.2f}", f"{entry.top5:.2f}")
        table.add_row(model.name, f"{model.parameters:,}", *accuracy, entry.params_sha1[:8])
    Console().print(table)


def _probes(sizes: list[tuple[int, int]] | None, dtypes: list[Dtype] | None) -> tuple[parity.Probe, ...]:
    """Return a probe for every size in every precision; what was not chosen is as by default."""
    default = pipeline.DEFAULT_PROBES
    chosen_sizes = dict.fromkeys(sizes or [probe.size for probe in default])
    chosen_dtypes = dict.fromkeys(dtypes or [Dtype(probe.dtype) for probe in default])
    pairs = itertools.product(chosen_dtypes, chosen_sizes)
    return tuple(parity.Probe(dtype.value, size) for dtype, size in pairs)


def _figures(model: catalog.Model) -> dict[str, Any]:
    entry = model.entry
    return {
        "model": model.name,
        "gluon": entry.gluon,
        "parameters": model.parameters,
        "params_sha1": entry.params_sha1,
        "published": {"top1": entry.top1, "top5": entry.top5},
    }


def _summary(result: pipeline.Result, console: Console) -> None:
    """Say in three lines what was read, how well it is proven, and what was written."""
    source, proof, written = (result.manifest[part] for part in ("source", "parity", "artifact"))
    origin = "the published parameters" if source["official"] else "not the published parameters"
    console.print(f"[green]read[/]    {escape(source['file'])}: {origin}, SHA-1 {source['sha1'][:8]}")
    if proof["proven"]:
        found = ", ".join(
            f"{check['relative']:.1e} in {check['dtype']} at {check['size']} (limit {check['limit']:.0e})"
            for check in proof["checks"]
        )
        console.print(f"[green]proven[/]  against GluonCV; difference / deviation of the logits: {found}")
    else:
        console.print("[yellow]unproven[/] as --reference none asks")
    console.print(
        f"[green]wrote[/]   {escape(str(result.artifact))} and .json: {written['bytes'] / MEGABYTE:.1f} MB, "
        f"{written['tensors']} tensors, {written['parameters']:,} parameters"
    )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn a refusal into its message and exit status 1, and a signal into an orderly end."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    previous = {number: signal.signal(number, _interrupt) for number in ENDING_SIGNALS}
    try:
        yield
    except ConversionError as error:
        console.print(f"[red]refused[/]  {escape(_printable(str(error)))}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interruption:
        console.print("[red]interrupted[/]")
        number = interruption.args[0] if interruption.args else signal.SIGINT
        raise typer.Exit(SIGNALLED + number) from None
    finally:
        for ending, handler in previous.items():
            signal.signal(ending, handler)


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt(number)


def _printable(text: str) -> str:
    """Escape what would steer a terminal: names come from files."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


@contextlib.contextmanager
def _progress() -> Iterator[Report]:
    """Show on stderr how far each step is; only where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield report
