"""`convert`: convert one model and prove the result."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.choices import Precision, ReferenceChoice
from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands import conversion
    from converter.manifests.schema import RoundingRecord, SourceRecord

AUTO = "auto"


class OutputFormat(StrEnum):
    """The format to write; safetensors is always written."""

    safetensors = "safetensors"
    pth = "pth"


def convert(  # noqa: PLR0913 - the options of the command line
    name: options.Name,
    out: Annotated[Path, typer.Argument(help="The folder to write to; made if need be.", file_okay=False)],
    *,
    params: options.Params = None,
    symbol: options.Symbol = None,
    random: options.Random = None,
    dtype: Annotated[
        Precision, typer.Option(help="The type of the written weights; `keep` leaves each as it is.")
    ] = Precision.keep,
    file_format: Annotated[
        OutputFormat,
        typer.Option("--format", help="`pth` writes a .pth too, as torch.hub loads by its hash."),
    ] = OutputFormat.safetensors,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The class names of a fine-tuned model: a line each, or a JSON list.", dir_okay=False
        ),
    ] = None,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    proof_dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Convert a GluonCV network to safetensors, and prove that its outputs are the same.

    Writes OUT/NAME-<sha256[:8]>.safetensors and its manifest, the same name with .json.
    Exits 0 when that is done, 1 with the reason when it was refused, 2 when the call is wrong.
    """
    from converter.commands import conversion
    from converter.manifests import schema

    with console.refusals(), console.progress() as progress:
        # Two networks run side by side: idle threads of one must not occupy cores that the other needs.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        result = conversion.convert(
            name,
            out,
            params=params,
            random=random,
            symbol=symbol,
            labels=labels,
            dtype=dtype,
            pth=file_format is OutputFormat.pth,
            options=options.parity_options(reference, size, proof_dtype, gluon_python),
            progress=progress,
        )
    if as_json:
        typer.echo(schema.encode(result.manifest), nl=False)
    screen = console.lines(stderr=as_json)
    if name == AUTO:
        screen.print(f"[green]found[/]   {result.model}")
    _summary(result, screen)


def _summary(result: conversion.ConversionResult, screen: Console) -> None:
    """Print the source, the graph, the proof and the written files."""
    manifest = result.manifest
    source, proof, artifact = manifest.source, manifest.parity, manifest.artifact
    publication = "the published parameters" if source.official else "not the published parameters"
    screen.print(
        f"[green]read[/]    {console.word(source.file)}: {publication}, SHA-1 {source.sha1[:8]}, "
        f"{source.dialect} names"
    )
    screen.print(f"[green]graph[/]   {console.word(_graph_text(source, result.model.name))}")
    if source.fixed_gammas:
        fixed = ", ".join(source.fixed_gammas)
        screen.print(f"[yellow]fixed[/]   {fixed}: written as 1, for {source.symbol} has fix_gamma")
    if manifest.narrowing:
        _print_rounding(manifest.narrowing, screen)
    elif proof.proven:
        screen.print(f"[green]proven[/]  {console.proven(proof)}")
    else:
        screen.print("[yellow]unproven[/] as --reference none asks")
    screen.print(
        f"[green]wrote[/]   {console.word(result.artifact)} and .json: "
        f"{artifact.bytes / console.MEGABYTE:.1f} MB, {artifact.tensors} tensors, "
        f"{artifact.parameters:,} parameters"
    )
    if result.pth is not None:
        screen.print(f"[green]wrote[/]   {console.word(result.pth)}")


def _graph_text(source: SourceRecord, model: str) -> str:
    """Describe the graph that the network was compared with, or its absence."""
    if source.symbol is None:
        return f"none found; the network is GluonCV's own definition of {model}"
    remark = "; its final softmax is not part of the converted network" if source.final_softmax else ""
    return f"{source.symbol}: operators, wiring and settings match{remark}"


def _print_rounding(rounding: RoundingRecord, screen: Console) -> None:
    """Print the effect of rounding on the logits, and the proof of the weights before rounding."""
    before, logits = rounding.before, rounding.logits
    if before.proven:
        screen.print(f"[green]proven[/]  before rounding, {console.proven(before)}")
    screen.print(
        f"[yellow]rounded[/] to {rounding.dtype}: the logits move by up to {logits.relative:.1e} of "
        f"their deviation, at {logits.size}; what is written is not proven"
    )
