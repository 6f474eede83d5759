"""What every command has in common: how it refuses, ends on a signal, and shows progress."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from converter.cli import signals
from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.progress import Progress as Report

MEGABYTE = 1_000_000
SURROGATE = re.compile("[\udc80-\udcff]")  # what Python makes of a byte that is no text


def lines(*, stderr: bool = False) -> Console:
    """Return a console for lines that are not to be broken or coloured by what is in them.

    Where the stream's encoding lacks a character, as on Windows when piped, it is replaced.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn a refusal into its message and exit status 1, and a signal into an orderly end."""
    console = lines(stderr=True)
    with signals.interrupting():
        try:
            yield
        except ConversionError as error:
            console.print(f"[red]refused[/]  {plain(error)}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as interruption:
            from converter.storage import disk

            disk.remove_temporary()
            console.print("[red]interrupted[/]")
            raise typer.Exit(signals.SIGNALLED + (*interruption.args, signal.SIGINT)[0]) from None


def plain(text: object) -> str:
    """Escape what would steer rich or a terminal: names come from files."""
    return escape(
        "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in str(text))
    )


def warn(text: str) -> None:
    """Print a warning on stderr, if there is one."""
    if text:
        lines(stderr=True).print(f"[yellow]warning[/]  {plain(text)}")


def word(text: object) -> str:
    """Escape the same and line breaks too."""
    return plain(text).replace("\n", r"\n")


def print_json(document: object) -> None:
    """Print what programs read; a byte of a name that is no text is written as by ``disk.file_name``."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(SURROGATE.sub(lambda found: rf"\\x{ord(found[0]) & 0xFF:02x}", text))


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Show on stderr how far each step is; only where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield report


def proven(proof: dict[str, Any]) -> str:
    """Return in a line what a manifest's proof rests on and found."""
    from converter.parity import json_report

    found = ", ".join(
        f"{check['worst']['relative']:.1e} in {check['dtype']} at {check['size']}"
        f" (limit {check['worst']['limit']:.0e})"
        for check in proof["checks"]
    )
    layers = proof["checks"][0]["layers"]
    against = json_report.against(proof["reference"], proof.get("definition"))
    return f"against {against}, {layers} layers; largest difference / deviation: {found}"


def run(app: Callable[..., object], name: str) -> NoReturn:
    """Run a program to its exit; where the system refuses what it prints, or memory, say so and exit 1."""
    try:
        app(prog_name=name)
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # on which typer and rich end without a word
            _tell(ending.__context__)
        raise
    except OSError as error:
        _tell(error)
        sys.exit(1)
    except MemoryError as error:
        _say(f"not enough memory{f': {error}' if str(error) else ''}")
        sys.exit(1)
    sys.exit()


def _tell(error: OSError) -> None:
    """Say what the system refused. It names every file, but not the one that is open as stdout."""
    _say(f"{error.filename or 'stdout'}: {error.strerror or error}")


def _say(reason: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be no better
        lines(stderr=True).print(f"[red]refused[/]  {word(reason)}")
