"""`gluon2torch to-gluon`: convert a PyTorch checkpoint to GluonCV parameters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from converter.choices import Precision, ReferenceChoice
from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands import reverse_conversion


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the written one may equal: its SHA-1, and whether the bytes are the same."""

    sha1: str | None
    same: bool


class WrittenParams(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of the command."""

    model: str
    file: str
    sha1: str
    bytes: int
    tensors: int
    published: Original
    origin: Original
    parity: dict[str, Any]


def to_gluon(  # noqa: PLR0913 - the options of the command line
    weights: Annotated[
        Path,
        typer.Argument(help="A .safetensors or .pth file, from here, timm or torchvision.", dir_okay=False),
    ],
    out: Annotated[Path, typer.Argument(help="The .params file to write.", dir_okay=False)],
    *,
    model: Annotated[
        str | None, typer.Option(help="The model.", show_default="told by the tensors", metavar="NAME")
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="The type to write; one that cannot hold every number is refused.")
    ] = Precision.keep,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    proof_dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Write a PyTorch checkpoint as a .params file that GluonCV loads, and prove that the outputs agree.

    The bytes are those that GluonCV's save_parameters writes: a file that was converted from such a one
    returns, and a lost official file can be regained from its converted weights; its SHA-1 tells.
    Exits 0 when that is done, 1 with the reason when it was refused, 2 when the call is wrong.
    """
    from converter.commands import reverse_conversion

    with console.refusals(), console.progress() as progress:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `convert`
        result = reverse_conversion.to_gluon(
            weights,
            out,
            model=model,
            dtype=dtype,
            overwrite=force,
            options=options.parity_options(reference, size, proof_dtype, gluon_python),
            progress=progress,
        )
    if as_json:
        console.print_json(msgspec.to_builtins(_document(result, out)))
    _summary(result, out, console.lines(stderr=as_json))


def _document(result: reverse_conversion.ToGluonResult, out: Path) -> WrittenParams:
    from converter.manifests import builder
    from converter.storage import disk

    return WrittenParams(
        model=result.model.name,
        file=disk.file_name(out),
        sha1=result.sha1,
        bytes=result.size,
        tensors=result.tensors,
        published=Original(sha1=result.model.entry.params_sha1 or None, same=result.is_published),
        origin=Original(sha1=result.source_sha1, same=result.is_original),
        parity=msgspec.to_builtins(builder.parity(result.proof)),
    )


def _summary(result: reverse_conversion.ToGluonResult, out: Path, screen: Console) -> None:
    """Print the model, the proof, the written file, and whether its bytes equal the original's."""
    from converter.manifests import builder

    published = result.model.entry.params_sha1
    screen.print(f"[green]found[/]   {result.model}")
    if result.proof.passed:
        screen.print(f"[green]proven[/]  {console.proven(builder.parity(result.proof))}")
    else:
        screen.print("[yellow]unproven[/] as --reference none asks")
    screen.print(
        f"[green]wrote[/]   {console.word(out)}: {result.size / console.MEGABYTE:.1f} MB, "
        f"{result.tensors} arrays, SHA-1 {result.sha1}"
    )
    if result.is_published:
        screen.print("[green]file[/]    is the one that GluonCV published, byte for byte")
    elif published:
        screen.print(f"[blue]file[/]    is not the one that GluonCV published, SHA-1 {published}")
    if result.is_original:
        screen.print("[green]file[/]    is the one that these weights were converted from, byte for byte")
    elif result.source_sha1:
        screen.print(
            f"[blue]file[/]    is not the one that these weights came from, SHA-1 {result.source_sha1}"
        )
    if result.dtypes != ("float32",):
        dtypes = " and ".join(result.dtypes)
        screen.print(
            f"[blue]types[/]   {dtypes}: for net.load_parameters(…, cast_dtype=True, dtype_source='saved')"
        )
