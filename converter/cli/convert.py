"""`convert`: one file in, a proven one out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter import artifact, pipeline
from converter.cli import console, options
from converter.findings import REFERENCES
from converter.proving import Choice

if TYPE_CHECKING:
    from rich.console import Console

MEGABYTE = 1_000_000


def convert(  # noqa: PLR0913 - the options of the command line
    name: options.Name,
    out: Annotated[Path, typer.Argument(help="The folder to write to; made if need be.", file_okay=False)],
    *,
    params: options.Params = None,
    random: options.Random = None,
    reference: options.Reference = Choice.auto,
    size: options.Size = None,
    dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Convert a GluonCV network to safetensors, and prove that its outputs are the same.

    Writes OUT/NAME-<sha256[:8]>.safetensors and its manifest, the same name with .json.
    Exits 0 when that is done, 1 with the reason when it was refused, 2 when the call is wrong.
    """
    options.exclude(params, random)
    options.refuse_unused(reference, size, dtype)
    with console.refusals():
        # Two networks run side by side: threads that wait for work must leave the cores to the other's.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        request = pipeline.Request(
            options.origin(name, params, random), out, options.terms(reference, size, dtype, gluon_python)
        )
        with console.progress() as report:
            result = pipeline.convert(request, report)
    if as_json:
        typer.echo(artifact.manifest_bytes(result.manifest), nl=False)
    _summary(result, console.lines(stderr=as_json))


def _summary(result: pipeline.Result, screen: Console) -> None:
    """Say in three lines what was read, how well it is proven, and what was written."""
    source, proof, written = (result.manifest[part] for part in ("source", "parity", "artifact"))
    origin = "the published parameters" if source["official"] else "not the published parameters"
    screen.print(f"[green]read[/]    {console.plain(source['file'])}: {origin}, SHA-1 {source['sha1'][:8]}")
    if proof["proven"]:
        found = ", ".join(
            f"{check['worst']['relative']:.1e} in {check['dtype']} at {check['size']}"
            f" (limit {check['worst']['limit']:.0e})"
            for check in proof["checks"]
        )
        layers = proof["checks"][0]["layers"]
        against = REFERENCES[proof["reference"]]
        screen.print(
            f"[green]proven[/]  against {against}, {layers} layers; largest difference / deviation: {found}"
        )
    else:
        screen.print("[yellow]unproven[/] as --reference none asks")
    screen.print(
        f"[green]wrote[/]   {console.plain(result.artifact)} and .json: "
        f"{written['bytes'] / MEGABYTE:.1f} MB, {written['tensors']} tensors, "
        f"{written['parameters']:,} parameters"
    )
