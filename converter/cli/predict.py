"""`gluon2torch predict`: classify images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from converter.choices import TOP, Device, Preprocessing
from converter.cli import console, vision

if TYPE_CHECKING:
    from rich.console import Console

    from converter.vision.prediction import Predictions

BAR = 24  # characters


def predict(  # noqa: PLR0913 - the options of the command line
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.", metavar="IMAGE")],
    weights: vision.Weights,
    *,
    top: Annotated[int, typer.Option(min=1, help="So many classes are shown of each.")] = TOP,
    preprocessing: vision.Recipe = Preprocessing.bicubic,
    batch_size: vision.BatchSize = 32,
    device: vision.Where = Device.auto,
    as_json: vision.Json = False,
) -> None:
    """Tell what a network takes images for. The tensors alone tell which network the weights are of.

    Classes are called as the manifest beside the weights says, else, where there are 1000, as in ImageNet.
    Exits 0, 1 with the reason when an image or the weights cannot be read, 2 when the call is wrong.
    """
    from converter.vision import prediction
    from converter.vision.classifier import ClassifierOptions

    terms = ClassifierOptions(weights, preprocessing, device, batch_size)
    with console.refusals(), console.progress() as progress:
        predictions = prediction.predict(prediction.PredictionRequest(tuple(images), terms, top), progress)
    console.warn(predictions.classifier.warning)
    if as_json:
        document = prediction.document(predictions, terms)
        console.print_json(document)
    else:
        _show(predictions, console.lines())


def _show(predictions: Predictions, screen: Console) -> None:
    screen.print(f"[bold]model[/]  {console.word(str(predictions.classifier.model))}")
    for image in predictions.images:
        screen.print(f"\n[bold]{console.word(str(image.file))}[/]")
        number, share = (Column(justify="right", no_wrap=True) for _ in range(2))
        table = Table(number, Column(overflow="fold"), share, Column(), box=box.SIMPLE, show_header=False)
        for guess in image.guesses:
            bar = ProgressBar(total=1.0, completed=guess.probability, width=BAR)
            name = console.word(guess.label)
            table.add_row(str(guess.number), name, f"{guess.probability:.2%}", bar)
        screen.print(table)
