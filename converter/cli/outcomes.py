"""The progress and the outcomes of many conversions, on a terminal."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from converter.cli import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Json = Annotated[bool, typer.Option("--json", help="Print only the summary on stdout, as JSON.")]

COLOURS = {"converted": "green", "skipped": "blue", "failed": "red"}
MAX_ROWS = 200  # of a table; more do not help on a terminal
FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeLine:
    """The outcome of one conversion.

    Attributes:
        name: the model or the checkpoint.
        verdict: "converted", "skipped" or "failed".
        file: the weights, "" without any.
        proof: what they were compared with, "" without weights.
        reason: why it failed, or what was not used.
    """

    name: str
    verdict: str
    file: str
    proof: str
    reason: str


class _CountColumn(MofNCompleteColumn):
    """The number of conversions that are done; nothing for one, which is not divided into steps."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class Bars:
    """The overall progress, and a line for each conversion that was submitted and has not ended."""

    def __init__(self, bars: Progress, total: int) -> None:
        self._bars = bars
        self._overall = bars.add_task("all", total=total)
        self._tasks: dict[str, TaskID] = {}

    def plan(self, total: int) -> None:
        """Set the number of conversions."""
        self._bars.update(self._overall, total=total)

    def start(self, name: str) -> None:
        """Show a conversion."""
        self._tasks[name] = self._bars.add_task(console.word(name), total=None)

    def end(self, name: str) -> None:
        """Count a conversion; one that was skipped did not start."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        self._bars.advance(self._overall)


@contextlib.contextmanager
def progress(total: int = 0) -> Iterator[Bars]:
    """Show progress on stderr, if it is a terminal."""
    screen = Console(stderr=True, emoji=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _CountColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as bars:
        yield Bars(bars, total)


def proof(reference: str, definition: str | None) -> str:
    """Return what weights were compared with."""
    if reference == "none":
        return "unproven"
    return f"{reference} (graph)" if definition == "graph" else reference


def show(
    heading: str, lines: Sequence[OutcomeLine], counts: dict[str, int], screen: Console, *, verbose: bool
) -> None:
    """Print a row for each conversion, the reason for each failure, and the number of each outcome.

    Args:
        heading: what the names are.
        lines: the conversions.
        counts: the number of each outcome.
        screen: where to print.
        verbose: whether to print all rows, and reasons in full.
    """
    table = Table(heading, "result", box=box.SIMPLE_HEAD)
    table.add_column("file", overflow="fold")
    table.add_column("reference")
    shown = lines if verbose else lines[:MAX_ROWS]
    for line in shown:
        colour = COLOURS[line.verdict]
        cells = map(console.plain, (line.file, line.proof))
        table.add_row(console.plain(line.name), f"[{colour}]{line.verdict}[/]", *cells)
    screen.print(table)
    plain = console.lines(stderr=screen.stderr)
    if len(shown) < len(lines):
        plain.print(f"… {len(lines) - len(shown)} more: --verbose")
    for line in lines:
        if line.reason:
            label = "[red]failed[/] " if line.verdict == FAILED else "[yellow]note[/]   "
            reason = console.brief(line.reason, verbose=verbose)
            plain.print(f"{label} {console.plain(line.name)}: {console.plain(reason)}")
    plain.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
