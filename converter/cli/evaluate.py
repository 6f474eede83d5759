"""`gluon2torch evaluate`: measure a network's accuracy on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from converter.choices import Backend, Device, Preprocessing
from converter.cli import console, options, vision

if TYPE_CHECKING:
    from rich.console import Console

    from converter.vision.evaluation import Evaluation

WIDTH = 8  # of a label


def evaluate(  # noqa: PLR0913 - the options of the command line
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder with one subfolder of images per class.", file_okay=False
        ),
    ],
    weights: vision.Weights,
    *,
    batch_size: vision.BatchSize = 32,
    workers: Annotated[
        int, typer.Option(min=0, help="Number of processes that load images; 0 for the main process.")
    ] = 0,
    key: options.Key = None,
    preprocessing: vision.Recipe = Preprocessing.bicubic,
    device: vision.Where = Device.auto,
    backend: vision.Library = Backend.torch,
    as_json: vision.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure top-1 and top-5 accuracy on a folder of images.

    Subfolders are matched with the class names in the manifest of the weights;
    without class names, they are the classes in sorted order, as in ImageNet.
    `torchrun -m converter evaluate …` uses several processes.

    Exits with 0 on success, 1 with the reason if images or weights cannot be
    read, 2 on a usage error.
    """
    from converter.vision import evaluation
    from converter.vision.classifier import ClassifierOptions

    request = evaluation.EvaluationRequest(
        folder, ClassifierOptions(weights, preprocessing, device, batch_size, key, backend), workers
    )
    with console.refusals(verbose=verbose), console.progress() as progress:
        result = evaluation.evaluate(request, progress)
    if result.process.rank:
        return  # only the first process prints the result
    console.warn(result.classifier.warning)
    if as_json:
        document = evaluation.document(result, request)
        console.print_json(document)
    else:
        screen = console.lines()
        _show(result, screen)
        file = result.classifier.file
        is_artifact = file.suffix == ".safetensors"
        following = ["publish", file, "DIR"] if is_artifact else ["predict", "IMAGE", "--weights", file]
        console.print_next(screen, ["gluon2torch", *following])


def _show(result: Evaluation, screen: Console) -> None:
    from converter.vision import evaluation

    processes = f", in {result.process.world_size} processes" if result.process.world_size > 1 else ""
    screen.print(f"[bold]model[/]   {console.word(str(result.classifier.model))}")
    if location := str(result.classifier.location):
        screen.print(f"[bold]read[/]    {console.word(location)}")
    vision.show_export(result.classifier.module, screen, WIDTH)
    screen.print(f"[bold]images[/]  {result.images:,}{processes}")
    table = Table("", box=box.SIMPLE_HEAD)
    for column in ("top-1", "top-5"):
        table.add_column(column, justify="right")
    table.add_row("measured", f"{result.top1:.2f}", f"{result.top5:.2f}")
    if published := evaluation.published(result.classifier):
        row = "published" if published.official else "published, for other weights"
        table.add_row(row, f"{published.top1:.2f}", f"{published.top5:.2f}")
    screen.print(table)
