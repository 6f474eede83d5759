"""`gluon2torch to-gluon`: convert a PyTorch checkpoint to a ``.params`` file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.choices import Precision, ReferenceChoice
from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands import reverse_conversion


def to_gluon(  # noqa: PLR0913 - the options of the command line
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="Checkpoint to convert: .safetensors or .pth, from gluon2torch, timm or torchvision; or a "
            "folder that contains one.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".params file to write.", dir_okay=False)],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model name.",
            show_default="detected from the tensors",
            metavar="NAME",
            autocompletion=options.complete_model,
        ),
    ] = None,
    key: options.Key = None,
    symbol: Annotated[
        Path | None,
        typer.Option(
            help="Graph of a generated module, for the proof.",
            show_default="the one next to WEIGHTS",
            dir_okay=False,
        ),
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="Type of the written arrays; it must represent every value exactly.")
    ] = Precision.keep,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    proof_dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a checkpoint to GluonCV parameters and prove that the outputs match.

    The output has the bytes that GluonCV's save_parameters writes, so a lost
    official file can be recovered from weights that were converted from it. The
    published SHA-1 shows whether the result is that file.

    Exits with 0 if the file was written, 1 with the reason if not, 2 on a usage
    error.
    """
    from converter.commands import reverse_conversion

    with console.refusals(verbose=verbose), console.progress() as progress:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `convert`
        result = reverse_conversion.to_gluon(
            weights,
            out,
            model=model,
            key=key,
            symbol=symbol,
            dtype=dtype,
            overwrite=force,
            options=options.parity_options(reference, size, proof_dtype, gluon_python),
            progress=progress,
        )
    if as_json:
        console.print_json(reverse_conversion.document(result, out))
    screen = console.lines(stderr=as_json)
    _summary(result, out, screen)
    console.print_next(screen, ["gluon2torch", "diff", weights, out])


def _summary(result: reverse_conversion.ToGluonResult, out: Path, screen: Console) -> None:
    """Print the model, the proof, the written file, and whether its bytes equal the original's."""
    published = result.published_sha1
    screen.print(f"[green]model[/]   {result.model or console.word(result.name)}")
    if location := str(result.location):
        screen.print(f"[green]read[/]    {console.word(location)}")
    if result.parity.proven:
        screen.print(f"[green]proven[/]  {console.proven(result.parity)}")
    else:
        screen.print("[yellow]unproven[/] the outputs were not compared (--reference none)")
    screen.print(
        f"[green]wrote[/]   {console.word(out)} ({result.size / console.MEGABYTE:.1f} MB, "
        f"{result.tensors} arrays), SHA-1 {result.sha1}"
    )
    if result.is_published:
        screen.print("[green]same[/]    as the file that GluonCV published, byte for byte")
    elif published:
        screen.print(f"[blue]differs[/] from the file that GluonCV published, SHA-1 {published}")
    if result.is_original:
        screen.print("[green]same[/]    as the file that these weights were converted from, byte for byte")
    elif result.source_sha1:
        screen.print(
            "[blue]differs[/] from the file that these weights were converted from, "
            f"SHA-1 {result.source_sha1}"
        )
    if result.model and result.dtypes != ("float32",):
        dtypes = " and ".join(result.dtypes)
        screen.print(
            f"[blue]types[/]   {dtypes}: load with "
            "net.load_parameters(…, cast_dtype=True, dtype_source='saved')"
        )
