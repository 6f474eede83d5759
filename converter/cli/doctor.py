"""`gluon2torch doctor`: report what is installed and what works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from converter.commands.doctor import DoctorReport, FolderRecord, PackageRecord

GIGABYTE = 1_000_000_000
EXAMPLE = "gluon_cifar_resnext29_32x4d"  # the smallest file


def doctor(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")
    ] = False,
) -> None:
    """Report what is installed, which references run, and where files are cached.

    GluonCV is imported in its own process if it is installed, which takes
    seconds.

    Exits with 0 if models can be converted and proven, 1 if not, 2 on a usage
    error.
    """
    from converter.commands import doctor as command

    with console.refusals():
        report = command.doctor()
    if as_json:
        console.print_json(report)
    else:
        _show(report, console.lines())
    raise typer.Exit(not report.ready)


def _show(report: DoctorReport, screen: Console) -> None:
    screen.print(f"{'[green]ready[/]    ' if report.ready else '[red]broken[/]   '} {report.verdict}")
    screen.print(
        f"[bold]version[/]   gluon2torch {report.version}, Python {report.python}, {report.platform}"
    )
    screen.print(f"[bold]python[/]    {console.word(report.executable)}")
    screen.print(f"[bold]packages[/]  {_listing(report.packages)}")
    for feature in report.features:
        if feature.installed:
            screen.print(f"[green]installed[/] {feature.name}: {feature.purpose}")
        else:
            command = console.plain(f'pip install "gluon2torch[{feature.name}]"')
            screen.print(f"[yellow]missing[/]   {feature.name}: {feature.purpose}: {command}")
    for reference in report.references:
        versions = ", ".join(f"{name} {version}" for name, version in reference.versions.items())
        state = "[green]runs[/]     " if reference.runs else "[yellow]absent[/]   "
        detail = f"{versions}; {reference.detail}" if versions else reference.detail
        screen.print(f"{state} --reference {reference.name}: {console.word(detail)}")
    for folder in report.folders:
        screen.print(f"[bold]folder[/]    {console.word(_describe(folder))}")
    console.print_next(screen, _next(report), 10)


def _listing(packages: Iterable[PackageRecord]) -> str:
    return ", ".join(f"{package.name} {package.version or '(missing)'}" for package in packages)


def _describe(folder: FolderRecord) -> str:
    """Return the purpose, place and contents of a folder in one line."""
    parts = [f"{folder.path} ({folder.variable})"]
    if not folder.exists:
        parts.append("does not exist yet")
    elif folder.files is not None and folder.bytes is not None:
        parts.append(f"{folder.files} published files, {folder.bytes / console.MEGABYTE:.1f} MB")
    if folder.free_bytes is not None:
        parts.append(f"{folder.free_bytes / GIGABYTE:.1f} GB free")
    return f"{folder.purpose}: {', '.join(parts)}"


def _next(report: DoctorReport) -> list[str]:
    missing = [package.name for package in report.packages if package.version is None]
    if missing:
        return ["pip", "install", *missing]
    if not report.ready:
        return ["convert", EXAMPLE, "OUT", "--random", "0", "--reference", "numpy"]
    return ["convert", EXAMPLE, "OUT", "--random", "0"]
