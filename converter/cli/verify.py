"""`gluon2torch verify`: check that files are unchanged, and who signed them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import console, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.verification import Verification
    from converter.manifests.checks import CheckResult

WIDTH = 9  # of a label


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE",
            help="Converted or trained file, folder of such files, or published folder.",
        ),
    ],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Public key to check the signature with, from a source that you trust.",
            metavar="PUB.pem",
            dir_okay=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Check that files are unchanged, and with --key who signed them.

    Checks names, sizes, hashes, the manifest, the tensors and SHA256SUMS. Nothing
    is executed: every file is hashed, and only headers are parsed.

    Exits with 0 if every check passes, 1 otherwise, 2 on a usage error.
    """
    from converter.commands import verification

    with console.refusals(verbose=verbose):
        result = verification.verify(path, key=key)
    if as_json:
        console.print_json(verification.document(path, result))
    screen = console.lines(stderr=as_json)
    _show(path, result, screen)
    console.print_next(screen, _next(path, result), WIDTH)
    if not result.holds:
        raise typer.Exit(1)


def _show(path: Path, result: Verification, screen: Console) -> None:
    width = max(len(check.place) for check in result.checks)
    for check in result.checks:
        screen.print(f"{_verdict(check)} {console.word(check.place.ljust(width))}  {_description(check)}")
    failed = sum(check.holds is False for check in result.checks)
    held = sum(check.holds is True for check in result.checks)
    if failed:
        screen.print(f"[red]refused[/]  {console.word(path)}: {failed} of {failed + held} checks failed")
    else:
        unchecked = sum(check.holds is None for check in result.checks)
        remark = f", {unchecked} skipped" if unchecked else ""
        screen.print(f"[green]verified[/] {console.word(path)}: all {held} checks passed{remark}")
    for text in result.proves:
        screen.print(f"[green]proves[/]   {text}")
    for text in result.does_not_prove:
        screen.print(f"[yellow]unproven[/] {text}")


def _next(path: Path, result: Verification) -> list[object]:
    """Return the likely next command: to use the network, or to see what the files are."""
    if result.holds and result.classifies_images:
        return ["gluon2torch", "predict", "IMAGE", "--weights", path]
    return ["gluon2torch", "inspect", path]


def _verdict(check: CheckResult) -> str:
    return {True: "[green]passed[/]  ", False: "[red]failed[/]  ", None: "[blue]skipped[/] "}[check.holds]


def _description(check: CheckResult) -> str:
    if check.holds is False:
        text = f"{check.what}: expected {check.expected}, found {check.actual}"
    else:
        text = f"{check.what}: {check.actual}"
    return console.word(text)
