"""`gluon2torch verify`: whether files are still what was converted or published, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.cli import console

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands.verification import Verification
    from converter.manifests.checks import CheckResult

PROVES_HASHES = "nothing changed since the hashes were written"
PROVES_SIGNATURE = "the holder of the key signed exactly these files"
NOT_ORIGIN = "who wrote them: whoever changes a file can change the hash beside it; a signature, --key, tells"
NOT_TRUTH = "that the manifest's proof was ever run: convert again, or gluon2torch parity, shows that"


def verify(
    path: Annotated[
        Path,
        typer.Argument(metavar="DIR|FILE", help="A converted file, a folder of them, or a published one."),
    ],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Require a signature by this public key, a PEM file that came another way than the folder.",
            metavar="PUB.pem",
            dir_okay=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Check names, sizes, hashes, manifest, tensors and SHA256SUMS, and by --key the signature.

    Nothing is executed, and torch is not needed; only headers are parsed, and every file is hashed.
    Exits 0 only when everything holds, 1 otherwise, 2 when the call is wrong.
    """
    from converter.commands import verification

    with console.refusals():
        found = verification.verify(path, key)
    if as_json:
        console.print_json(_document(path, found))
    _show(path, found, console.lines(stderr=as_json))
    if not found.holds:
        raise typer.Exit(1)


def _document(path: Path, found: Verification) -> dict[str, Any]:

    return {
        "path": str(path),
        "holds": found.holds,
        "signed": found.signed,
        "proves": _proves(found),
        "does_not_prove": _does_not_prove(found),
        "checks": [finding.document() for finding in found.findings],
    }


def _proves(found: Verification) -> list[str]:
    if not found.holds:
        return []
    return [PROVES_HASHES, *([PROVES_SIGNATURE] if found.signed else [])]


def _does_not_prove(found: Verification) -> list[str]:
    return [NOT_TRUTH] if found.signed else [NOT_ORIGIN, NOT_TRUTH]


def _show(path: Path, found: Verification, screen: Console) -> None:
    width = max(len(finding.place) for finding in found.findings)
    for finding in found.findings:
        screen.print(f"{_verdict(finding)} {console.word(finding.place.ljust(width))}  {_said(finding)}")
    failed = sum(finding.holds is False for finding in found.findings)
    held = sum(finding.holds is True for finding in found.findings)
    if failed:
        screen.print(f"[red]refused[/]  {console.word(path)}: {failed} of {failed + held} checks fail")
    else:
        unseen = sum(finding.holds is None for finding in found.findings)
        more = f"; not checked: {unseen}" if unseen else ""
        screen.print(f"[green]verified[/] {console.word(path)}: all {held} checks hold{more}")
    for text in _proves(found):
        screen.print(f"[green]proves[/]   {text}")
    for text in _does_not_prove(found):
        screen.print(f"[yellow]not[/]      {text}")


def _verdict(finding: CheckResult) -> str:
    return {True: "[green]holds[/]   ", False: "[red]fails[/]   ", None: "[blue]seen[/]    "}[finding.holds]


def _said(finding: CheckResult) -> str:
    if finding.holds is False:
        said = f"{finding.what}: {finding.expected} expected, {finding.found} found"
    elif finding.holds:
        said = f"{finding.what}: {finding.found}"
    else:
        said = f"{finding.what}: {finding.found}, not checked"
    return console.word(said)
