"""Console output, progress bars, and the handling of errors and signals in all commands."""

from __future__ import annotations

import contextlib
import io
import json
import operator
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from converter.cli import signals
from converter.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from converter.manifests.schema import ExportRecord, ParityRecord
    from converter.manifests.source_records import PreprocessingRecord, WrappingRecord
    from converter.progress import Progress as Report

BROKEN_PIPE_STATUS = 128 + 13  # of a process that SIGPIPE ends; Windows has no such signal
UNUSED = 4  # patterns of unused parameters in a line
MEGABYTE = 1_000_000
BRIEF_LINES = 10  # of an error message without --verbose
OPTIONS = {
    "source": "from",
    "sizes": "size",
    "dtypes": "proof_dtype",
    "exports": "format",
    "input_shapes": "input",
}  # where they differ from the parameters
EXPORT_REFERENCES = {
    "gluon": "MXNet",
    "numpy": "the graph on NumPy arrays",
    "module": "the PyTorch module",
}
SURROGATE = re.compile("[\udc80-\udcff]")  # Python's decoding of bytes that are not text


def lines(*, stderr: bool = False) -> Console:
    """Return a console that neither wraps nor highlights lines.

    Characters that the stream's encoding lacks are replaced, as on Windows if the output is piped.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)


@contextlib.contextmanager
def refusals(*, verbose: bool = False) -> Iterator[None]:
    """Handle the errors and signals of a command.

    A ``UsageError`` is printed as typer prints its own, with exit status 2, any other ``ConversionError``
    with exit status 1. After a signal, temporary files are removed, and the exit status is
    128 + its number; temporary files are removed at the latest when the process exits.

    Args:
        verbose: whether to print all lines of a message.
    """
    console = lines(stderr=True)
    with signals.interrupting():
        try:
            yield
        except UsageError as error:
            raise typer.BadParameter(_usage_message(error)) from error
        except ConversionError as error:
            console.print(f"[red]refused[/]  {plain(brief(error, verbose=verbose))}")
            raise typer.Exit(1) from error
        except (signals.Interruption, KeyboardInterrupt) as interruption:
            console.print("[red]interrupted[/]")
            raise typer.Exit(signals.SIGNALLED + (*interruption.args, signal.SIGINT)[0]) from None


def _usage_message(error: UsageError) -> str:
    """Return the message with options in place of parameters."""
    message = str(error)
    for parameter in error.parameters:
        option = OPTIONS.get(parameter, parameter).replace("_", "-")
        message = message.replace(f"`{parameter}`", f"--{option}")
    return message


def brief(text: object, *, verbose: bool) -> str:
    """Return a message, shortened to ``BRIEF_LINES`` lines unless ``verbose``.

    The first line, which says what is wrong, and the last, which says what to do, are kept.
    """
    every_line = str(text).split("\n")
    if verbose or len(every_line) <= BRIEF_LINES:
        return str(text)
    first = every_line[: BRIEF_LINES - 2]
    omitted = len(every_line) - len(first) - 1
    return "\n".join([*first, f"  … {omitted} more lines: --verbose", every_line[-1]])


def plain(text: object) -> str:
    """Escape rich markup and control characters: names come from files."""
    return escape(
        "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in str(text))
    )


def warn(text: str) -> None:
    """Print a warning on stderr, unless it is empty."""
    if text:
        lines(stderr=True).print(f"[yellow]warning[/]  {plain(text)}")


def word(text: object) -> str:
    """Escape as ``plain`` does, and line breaks too."""
    return plain(text).replace("\n", r"\n")


def print_json(document: object) -> None:
    """Print a document as JSON."""
    typer.echo(to_json(document))


def to_json(document: object) -> str:
    """Return JSON; undecodable bytes in names are escaped as in ``disk.file_name``."""
    import msgspec

    text = json.dumps(msgspec.to_builtins(document), indent=2, ensure_ascii=False, allow_nan=False)
    return SURROGATE.sub(lambda match: rf"\\x{ord(match[0]) & 0xFF:02x}", text)


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Show a progress bar for each step on stderr, if it is a terminal."""
    console = Console(stderr=True, emoji=False)
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


def proven(proof: ParityRecord) -> str:
    """Summarize a manifest's proof in one line: layers, reference, and the largest error of each check.

    Sizes are shown unless all are the default.
    """
    from converter.parity import json_report
    from converter.parity.options import DEFAULT_SIZES

    checks = sorted(proof.checks, key=operator.attrgetter("dtype"), reverse=True)
    show_sizes = {check.shape for check in checks} != {f"{height}x{width}" for height, width in DEFAULT_SIZES}
    errors = ", ".join(
        f"{check.worst.relative:.1e} in {check.dtype}" + (f" at {check.shape}" if show_sizes else "")
        for check in checks
    )
    reference = json_report.describe_reference(proof.reference, proof.definition)
    counted = "layers and outputs" if checks[0].nodes else "layers"
    return f"{checks[0].layers} {counted} against {reference}: max error {errors}"


def print_next(screen: Console, words: Iterable[object], width: int = 8) -> None:
    """Print the likely next command, quoted for a shell; ``width`` is that of the command's labels."""
    screen.print(f"[blue]next[/]{' ' * (width - len('next'))}{word(shlex.join(map(str, words)))}")


def print_more_files(files: Iterable[Path], exports: Iterable[ExportRecord], screen: Console) -> None:
    """Print the files next to the weights, and what exported ones were compared with."""
    records = {record.file: record for record in exports}
    for file in files:
        screen.print(f"[green]wrote[/]   {word(file)}")
        if record := records.get(file.name):
            images = " × ".join(map(str, record.shape[1:]))
            count = "any number of images" if record.dynamic_batch else "one image, whose number is fixed,"
            screen.print(
                f"[green]checked[/] {file.suffix[1:]}: float32, {count} of {images}; outputs agree with "
                f"{EXPORT_REFERENCES[record.reference]} to {record.relative:.1e}"
            )


def wrapping_lines(wrapping: WrappingRecord | None) -> dict[str, str]:
    """Return where a network is in a file, and which parameters are unused or filled in, by labels."""
    if wrapping is None:
        return {}
    more = f" and {len(wrapping.unused) - UNUSED} more" if len(wrapping.unused) > UNUSED else ""
    lines = {
        "found": wrapping.description,
        "unused": ", ".join(wrapping.unused[:UNUSED]) + more,
        "filled": f"{', '.join(wrapping.zeros)} with zeros" if wrapping.zeros else "",
    }
    return {label: text for label, text in lines.items() if text}


def preprocessing(record: PreprocessingRecord) -> str:
    """Return the mean and the standard deviation of a normalization of images."""
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (record.mean, record.std))
    return f"mean {mean}, std {std}"


def run(app: Callable[..., object], name: str) -> NoReturn:
    """Run a program and exit; failed output or a lack of memory is reported with exit status 1.

    If the reader of the output closes it, as ``head`` does, the program ends silently, as by SIGPIPE.
    """
    try:
        app(prog_name=name)
    except SystemExit as system_exit:
        if isinstance(system_exit.__context__, BrokenPipeError):  # for which typer and rich exit with 1
            sys.exit(BROKEN_PIPE_STATUS)
        raise
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE_STATUS)
    except OSError as error:
        _print_os_error(error)
        sys.exit(1)
    except MemoryError as error:
        _print_reason(f"not enough memory{f': {error}' if str(error) else ''}")
        sys.exit(1)
    sys.exit()


def _print_os_error(error: OSError) -> None:
    """Print what the system refused; an error without a file name is about stdout."""
    from converter.storage import disk

    _print_reason(f"{error.filename or 'stdout'}: {disk.os_reason(error)}")


def _print_reason(reason: str) -> None:
    with contextlib.suppress(OSError):  # stderr may fail too
        lines(stderr=True).print(f"[red]refused[/]  {word(reason)}")
