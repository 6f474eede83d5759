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

PROVES_HASHES = "the files are unchanged since the hashes were written"
PROVES_SIGNATURE = "the holder of the key signed exactly these files"
NOT_ORIGIN = "who wrote the files: hashes can be changed with them; --key checks a signature"
NOT_TRUTH = "that the proof in the manifest was run: convert again or use gluon2torch parity"


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
        typer.Argument(
            metavar="DIR|FILE", help="Converted file, folder of converted files, or published folder."
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
) -> None:
    """Check that files are unchanged, and with --key who signed them.

    Checks names, sizes, hashes, the manifest, the tensors and SHA256SUMS. Nothing
    is executed: every file is hashed, and only headers are parsed.

    Exits with 0 if every check passes, 1 otherwise, 2 on a usage error.
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
        screen.print(f"[red]refused[/]  {console.word(path)}: {failed} of {failed + held} checks failed")
    else:
        unchecked = sum(check.holds is None for check in result.checks)
        remark = f", {unchecked} skipped" if unchecked else ""
        screen.print(f"[green]verified[/] {console.word(path)}: all {held} checks passed{remark}")
    for text in _proves(result):
        screen.print(f"[green]proves[/]   {text}")
    for text in _does_not_prove(result):
        screen.print(f"[yellow]unproven[/] {text}")


def _verdict(check: CheckResult) -> str:
    return {True: "[green]passed[/]  ", False: "[red]failed[/]  ", None: "[blue]skipped[/] "}[check.holds]


def _description(check: CheckResult) -> str:
    if check.holds is False:
        text = f"{check.what}: expected {check.expected}, found {check.found}"
    elif check.holds:
        text = f"{check.what}: {check.found}"
    else:
        text = f"{check.what}: {check.found}"
    return console.word(text)
