"""`gluon2torch publish`: make folders of converted files for timm and the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from converter.choices import LICENSE
from converter.cli import console
from converter.errors import UsageError
from converter.publishing import hub, signature

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.publication import PublishedFolder


class PublishedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of the command, one per folder."""

    model: str
    folder: str
    sha256: str
    proven: bool
    official: bool
    random: bool
    signed: bool
    commit: str | None


def publish(  # noqa: PLR0913 - the options of the command line
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE… DIR",
            help="Converted files, their manifests beside them, and the folder to make; of several files it "
            "gets a folder NAME for each.",
            show_default=False,
        ),
    ],
    *,
    report: Annotated[
        Path | None,
        typer.Option(help="A parity report of the file, to be published with it.", dir_okay=False),
    ] = None,
    license_id: Annotated[
        str, typer.Option("--license", help="The weights' licence, by the hub's identifiers.", metavar="ID")
    ] = LICENSE,
    push: Annotated[
        str | None,
        typer.Option(
            help="Upload the folder to this repository of the Hugging Face hub.", metavar="ORG/NAME"
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository private.")] = False,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            help="Sign the folder with this private key, elliptic and not encrypted (pip install "
            "'gluon2torch\\[sign]').",
            metavar="KEY.pem",
            dir_okay=False,
        ),
    ] = None,
    allow_random: Annotated[
        bool, typer.Option("--allow-random", help="Publish random weights, and say so on the card.")
    ] = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Publish unproven weights, and say so on the card.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what was published in the folder before.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was published as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Make a folder of a converted file: weights, config.json for timm, model card, manifest, SHA256SUMS.

    A file that is not what its manifest says is refused; so are random and unproven weights, unless allowed.
    The folder appears whole or not at all. --push uploads it with the token that huggingface_hub finds.
    Exits 0 when that is done, 1 with the reason when it was refused, 2 when the call is wrong.
    """
    from converter.commands import publication

    *files, folder = paths
    with console.refusals():
        if push is None and private:
            raise UsageError("`private` requires `push`")
        if push is not None:
            hub.require_ready(push)
        if sign_key is not None:
            signature.require_key(sign_key)
        screen = console.lines(stderr=as_json)
        with console.progress() as progress:
            results = publication.publish(
                files,
                folder,
                report=report,
                repo=push,
                license=license_id,
                allow_random=allow_random,
                allow_unproven=allow_unproven,
                force=force,
                sign_key=sign_key,
                progress=progress,
            )
        for result in results:
            _show(result, screen)
        url = hub.push(results[0].folder, push, private=private) if push is not None else None
        if url is not None:
            screen.print(f"[green]pushed[/]     {console.plain(url)}")
    if as_json:
        console.print_json([msgspec.to_builtins(_document(result, url)) for result in results])


def _document(result: PublishedFolder, url: str | None) -> PublishedRecord:
    converted = result.converted
    return PublishedRecord(
        model=converted.model.name,
        folder=str(result.folder),
        sha256=converted.manifest.artifact.sha256,
        proven=converted.manifest.parity.proven,
        official=converted.official,
        random=converted.random,
        signed=(result.folder / signature.SIGNATURE).exists(),
        commit=url,
    )


def _show(result: PublishedFolder, screen: Console) -> None:
    converted = result.converted
    screen.print(f"[green]published[/]  {console.plain(result.folder)}: {converted.model}")
    for applies, text in (
        (converted.random, "random weights, as --allow-random asks; the card says so"),
        (not converted.manifest.parity.proven, "unproven, as --allow-unproven asks; the card says so"),
    ):
        if applies:
            screen.print(f"[yellow]warning[/]    {text}")
