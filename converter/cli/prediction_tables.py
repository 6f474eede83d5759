"""Tables of what a network found in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from converter.choices import PredictionTask
from converter.cli import console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.vision.detections import ClassShare, Detection
    from converter.vision.graph_prediction import ImageResult
    from converter.vision.prediction import ClassProbability

BAR = 24  # characters


def of(task: PredictionTask, image: ImageResult, score: float) -> Table | str:
    """Return the table of an image.

    Args:
        task: what the network computes.
        image: the results.
        score: the least score of an object.
    """
    if task is PredictionTask.detection:
        return objects(image.objects) if image.objects else f"  no object scores at least {score:g}"
    if task is PredictionTask.segmentation:
        return shares(image.shares)
    return classes(image.classes)


def classes(entries: Iterable[ClassProbability]) -> Table:
    """Return the table of the most probable classes."""
    return _bars((entry.index, entry.label, entry.probability) for entry in entries)


def shares(entries: Iterable[ClassShare]) -> Table:
    """Return the table of the classes of pixels."""
    return _bars((entry.index, entry.label, entry.share) for entry in entries)


def objects(entries: Iterable[Detection]) -> Table:
    """Return the table of objects, with their boxes in pixels."""
    columns = [Column(header, justify="right", no_wrap=True) for header in ("left", "top", "right", "bottom")]
    score = Column("score", justify="right", no_wrap=True)
    table = Table(Column("object", overflow="fold"), score, *columns, box=box.SIMPLE)
    for entry in entries:
        corners = (f"{corner:.0f}" for corner in entry.box)
        table.add_row(console.word(entry.label), f"{entry.score:.2%}", *corners)
    return table


def _bars(rows: Iterable[tuple[int, str, float]]) -> Table:
    number, share = (Column(justify="right", no_wrap=True) for _ in range(2))
    table = Table(number, Column(overflow="fold"), share, Column(), box=box.SIMPLE, show_header=False)
    for index, label, value in rows:
        bar = ProgressBar(total=1.0, completed=value, width=BAR)
        table.add_row(str(index), console.word(label), f"{value:.2%}", bar)
    return table
