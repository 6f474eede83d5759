"""`gluon2torch evaluate`: measure a network's accuracy on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from converter.choices import Device, Preprocessing
from converter.cli import console, vision

if TYPE_CHECKING:
    from rich.console import Console

    from converter.vision.evaluation import Evaluation


def evaluate(  # noqa: PLR0913 - the options of the command line
    folder: Annotated[
        Path, typer.Argument(help="A folder with a folder of images for each class.", file_okay=False)
    ],
    weights: vision.Weights,
    *,
    batch_size: vision.BatchSize = 32,
    workers: Annotated[int, typer.Option(min=0, help="So many processes prepare images; 0: this one.")] = 0,
    preprocessing: vision.Recipe = Preprocessing.bicubic,
    device: vision.Where = Device.auto,
    as_json: vision.Json = False,
) -> None:
    """Count how often a network is right: top-1 and top-5 on a folder of images, a folder for each class.

    Folders are the classes in their sorted order, as ImageNet's are, or by the names that the manifest
    beside the weights has. Many processes share the work under `torchrun -m converter evaluate …`.
    Exits 0, 1 with the reason when an image or the weights cannot be read, 2 when the call is wrong.
    """
    from converter.vision import evaluation
    from converter.vision.classifier import ClassifierOptions

    request = evaluation.EvaluationRequest(
        folder, ClassifierOptions(weights, preprocessing, device, batch_size), workers
    )
    with console.refusals(), console.progress() as progress:
        result = evaluation.evaluate(request, progress)
    if result.place.number:
        return  # only the first process prints the result
    console.warn(result.classifier.warning)
    if as_json:
        document = evaluation.document(result, request)
        console.print_json(document)
    else:
        _show(result, console.lines())


def _show(result: Evaluation, screen: Console) -> None:
    from converter.vision import evaluation

    processes = f", by {result.place.count} processes" if result.place.count > 1 else ""
    screen.print(f"[bold]model[/]   {console.word(str(result.classifier.model))}")
    screen.print(f"[bold]images[/]  {result.images:,}{processes}")
    table = Table("", box=box.SIMPLE_HEAD)
    for column in ("top-1", "top-5"):
        table.add_column(column, justify="right")
    table.add_row("here", f"{result.top1:.2f}", f"{result.top5:.2f}")
    if published := evaluation.published(result.classifier):
        row = "GluonCV's" if published["official"] else "GluonCV's, other weights"
        table.add_row(row, f"{published['top1']:.2f}", f"{published['top5']:.2f}")
    screen.print(table)
