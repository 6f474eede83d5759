"""`gluon2torch verify`: check that files are unchanged, and who signed them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
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


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One check in the JSON document; ``holds`` is None if the property was not checked."""

    place: str
    what: str
    expected: str
    found: str
    holds: bool | None


class VerificationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of the command."""

    path: str
    holds: bool
    signed: bool
    proves: list[str]
    does_not_prove: list[str]
    checks: list[CheckRow]


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
        result = verification.verify(path, key=key)
    if as_json:
        console.print_json(msgspec.to_builtins(_document(path, result)))
    _show(path, result, console.lines(stderr=as_json))
    if not result.holds:
        raise typer.Exit(1)


def _document(path: Path, result: Verification) -> VerificationRecord:
    return VerificationRecord(
        path=str(path),
        holds=result.holds,
        signed=result.signed,
        proves=_proves(result),
        does_not_prove=_does_not_prove(result),
        checks=[
            CheckRow(
                place=check.place,
                what=check.what,
                expected=check.expected,
                found=check.found,
                holds=check.holds,
            )
            for check in result.checks
        ],
    )


def _proves(result: Verification) -> list[str]:
    if not result.holds:
        return []
    return [PROVES_HASHES, *([PROVES_SIGNATURE] if result.signed else [])]


def _does_not_prove(result: Verification) -> list[str]:
    return [NOT_TRUTH] if result.signed else [NOT_ORIGIN, NOT_TRUTH]


def _show(path: Path, result: Verification, screen: Console) -> None:
    width = max(len(check.place) for check in result.checks)
    for check in result.checks:
        screen.print(f"{_verdict(check)} {console.word(check.place.ljust(width))}  {_description(check)}")
    failed = sum(check.holds is False for check in result.checks)
    held = sum(check.holds is True for check in result.checks)
    if failed:
        screen.print(f"[red]refused[/]  {console.word(path)}: {failed} of {failed + held} checks fail")
    else:
        unchecked = sum(check.holds is None for check in result.checks)
        remark = f"; not checked: {unchecked}" if unchecked else ""
        screen.print(f"[green]verified[/] {console.word(path)}: all {held} checks hold{remark}")
    for text in _proves(result):
        screen.print(f"[green]proves[/]   {text}")
    for text in _does_not_prove(result):
        screen.print(f"[yellow]not[/]      {text}")


def _verdict(check: CheckResult) -> str:
    return {True: "[green]holds[/]   ", False: "[red]fails[/]   ", None: "[blue]seen[/]    "}[check.holds]


def _description(check: CheckResult) -> str:
    if check.holds is False:
        text = f"{check.what}: {check.expected} expected, {check.found} found"
    elif check.holds:
        text = f"{check.what}: {check.found}"
    else:
        text = f"{check.what}: {check.found}, not checked"
    return console.word(text)
