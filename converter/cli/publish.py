"""`gluon2torch publish`: create folders of converted files for timm and the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.choices import LICENSE
from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.publication import PublishedFolder

WIDTH = 11  # of a label


def publish(  # noqa: PLR0913 - the options of the command line
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE… DIR",
            help="Converted or trained files or their folders, and the output folder. Several files get a "
            "subfolder each, named by the model.",
            show_default=False,
        ),
    ],
    *,
    report: Annotated[
        Path | None,
        typer.Option(help="Parity report of the file, to publish with it.", dir_okay=False),
    ] = None,
    license_id: Annotated[
        str | None,
        typer.Option(
            "--license",
            help="License of the weights, as an identifier of the Hugging Face Hub.",
            metavar="ID",
            show_default=f"{LICENSE}; none for trained weights",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Repository on the Hugging Face Hub to upload the folder to.", metavar="ORG/NAME"),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Upload to a private repository.")] = False,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            help="Private key to sign the folder with: elliptic curve, not encrypted (pip install "
            "'gluon2torch[sign]').",
            metavar="KEY.pem",
            dir_okay=False,
        ),
    ] = None,
    allow_random: Annotated[
        bool, typer.Option("--allow-random", help="Publish random weights; the model card says so.")
    ] = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Publish unproven weights; the model card says so.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the folder if it was published before.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Create a folder for timm and the Hugging Face Hub from a converted or trained file.

    It contains the weights, config.json for timm, a model card, the manifest and
    SHA256SUMS. A file that does not match its manifest is refused. So are random
    and unproven weights, unless allowed. The folder is created completely or not
    at all. --push uploads it with the token of huggingface_hub.

    Exits with 0 on success, 1 with the reason if publication was refused, 2 on a
    usage error.
    """
    from converter.commands import publication

    *files, folder = paths
    screen = console.lines(stderr=as_json)
    with console.refusals(verbose=verbose), console.progress() as progress:
        results = publication.publish(
            files,
            folder,
            report=report,
            push=push,
            private=private,
            license=license_id,
            allow_random=allow_random,
            allow_unproven=allow_unproven,
            force=force,
            sign_key=sign_key,
            progress=progress,
        )
    for result in results:
        _show(result, screen)
    console.print_next(screen, ["gluon2torch", "verify", folder], WIDTH)
    if as_json:
        console.print_json([publication.document(result) for result in results])


def _show(result: PublishedFolder, screen: Console) -> None:
    converted = result.converted
    screen.print(
        f"[green]published[/]  {console.plain(result.folder)}: {converted.model or converted.manifest.model}"
    )
    for applies, text in (
        (converted.random, "random weights, allowed by --allow-random; the model card says so"),
        (
            not converted.trained and not converted.proven,
            "unproven weights, allowed by --allow-unproven; the model card says so",
        ),
    ):
        if applies:
            screen.print(f"[yellow]warning[/]    {text}")
    if converted.trained:
        screen.print(
            "[green]trained[/]    the model card has the metrics of the training run, and claims no parity"
        )
    if result.commit is not None:
        screen.print(f"[green]pushed[/]     {console.plain(result.commit)}")
