"""`gluon2torch predict`: classify images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from converter.choices import TOP, Device, Preprocessing
from converter.cli import console, options, vision

if TYPE_CHECKING:
    from rich.console import Console

    from converter.vision.prediction import Predictions

WIDTH = 7  # of a label
BAR = 24  # characters


def predict(  # noqa: PLR0913 - the options of the command line
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", metavar="IMAGE")],
    weights: vision.Weights,
    *,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = TOP,
    key: options.Key = None,
    preprocessing: vision.Recipe = Preprocessing.bicubic,
    batch_size: vision.BatchSize = 32,
    device: vision.Where = Device.auto,
    as_json: vision.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Classify images.

    The model is detected from the tensors. Class names come from the manifest of
    the weights, else from ImageNet if there are 1000 classes.

    Exits with 0 on success, 1 with the reason if images or weights cannot be
    read, 2 on a usage error.
    """
    from converter.vision import prediction
    from converter.vision.classifier import ClassifierOptions

    classifier_options = ClassifierOptions(weights, preprocessing, device, batch_size, key)
    with console.refusals(verbose=verbose), console.progress() as progress:
        predictions = prediction.predict(
            prediction.PredictionRequest(tuple(images), classifier_options, top), progress
        )
    console.warn(predictions.classifier.warning)
    if as_json:
        document = prediction.document(predictions, classifier_options)
        console.print_json(document)
    else:
        screen = console.lines()
        _show(predictions, screen)
        console.print_next(screen, ["gluon2torch", "evaluate", "FOLDER", "--weights", weights], WIDTH)


def _show(predictions: Predictions, screen: Console) -> None:
    screen.print(f"[bold]model[/]  {console.word(str(predictions.classifier.model))}")
    if location := str(predictions.classifier.location):
        screen.print(f"[bold]read[/]   {console.word(location)}")
    for image in predictions.images:
        screen.print(f"\n[bold]{console.word(str(image.file))}[/]")
        number, share = (Column(justify="right", no_wrap=True) for _ in range(2))
        table = Table(number, Column(overflow="fold"), share, Column(), box=box.SIMPLE, show_header=False)
        for entry in image.classes:
            bar = ProgressBar(total=1.0, completed=entry.probability, width=BAR)
            name = console.word(entry.label)
            table.add_row(str(entry.index), name, f"{entry.probability:.2%}", bar)
        screen.print(table)
