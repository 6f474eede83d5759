"""`gluon2torch predict`: classify images, find objects in them, or segment them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.choices import SCORE, TOP, Backend, Dataset, Device, PredictionTask, Preprocessing
from converter.cli import console, options, prediction_tables, vision

if TYPE_CHECKING:
    from rich.console import Console

    from converter.vision.graph_prediction import GraphPredictions
    from converter.vision.prediction import Predictions

WIDTH = 7  # of a label


def predict(  # noqa: PLR0913 - the options of the command line
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", metavar="IMAGE")],
    weights: vision.Weights,
    *,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = TOP,
    score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least score of an object.", show_default="0.5"),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Draw boxes or masks: a .png, .jpg or .webp for one image, or a folder."
        ),
    ] = None,
    task: Annotated[
        PredictionTask | None,
        typer.Option(
            help="What a converted graph computes.", show_default="detected from its outputs' shapes"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names of a converted graph: one per line, or a .json list.",
            show_default="those of the known data set with as many classes",
            dir_okay=False,
        ),
    ] = None,
    dataset: Annotated[
        Dataset | None,
        typer.Option(help="Data set that has the class names of a converted graph.", show_default="as above"),
    ] = None,
    size: Annotated[  # noqa: ANN401 - typer reads a tuple as two values
        Any,
        typer.Option(
            parser=options.read_size,
            metavar="H[xW]",
            help="Input size of a converted graph, in pixels.",
            show_default="GluonCV's, that of the graph or its proof, or a usual one",
        ),
    ] = None,
    symbol: Annotated[
        Path | None,
        typer.Option(
            help="Graph that was converted; the network is then made from it, and not read from its module.",
            show_default="the one in the folder of the weights, if any",
            dir_okay=False,
        ),
    ] = None,
    key: options.Key = None,
    preprocessing: vision.Recipe = Preprocessing.bicubic,
    batch_size: vision.BatchSize = 32,
    device: vision.Where = Device.auto,
    backend: vision.Library = Backend.torch,
    as_json: vision.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Classify images, find objects in them, or segment them.

    The model is detected from the tensors, and what a converted graph computes
    from the shapes of its outputs. Class names come from the manifest of the
    weights, else from the known data set with as many classes.

    Exits with 0 on success, 1 with the reason if images or weights cannot be
    read, 2 on a usage error.
    """
    from converter.commands import prediction
    from converter.vision.class_lists import ClassListRequest
    from converter.vision.classifier import ClassifierOptions
    from converter.vision.graph_prediction import GraphPredictionRequest
    from converter.vision.prediction import Predictions

    request = prediction.PredictRequest(
        options=ClassifierOptions(weights, preprocessing, device, batch_size, key, backend),
        images=GraphPredictionRequest(
            paths=tuple(images),
            classes=ClassListRequest(labels=labels, dataset=dataset),
            preprocessing=preprocessing,
            top=top,
            score=score,
            draw=draw,
        ),
        task=task,
        size=size,
        symbol=symbol,
    )
    with console.refusals(verbose=verbose), console.progress() as progress:
        predictions = prediction.run(request, progress)
    console.warn(predictions.warning)
    if as_json:
        console.print_json(prediction.document(predictions, request))
        return
    screen = console.lines()
    if isinstance(predictions, Predictions):
        _show(predictions, screen)
        console.print_next(screen, ["gluon2torch", "evaluate", "FOLDER", "--weights", weights], WIDTH)
    else:
        _show_graph(predictions, screen, SCORE if score is None else score)


def _show(predictions: Predictions, screen: Console) -> None:
    screen.print(f"[bold]model[/]  {console.word(str(predictions.classifier.model))}")
    if location := str(predictions.classifier.location):
        screen.print(f"[bold]read[/]   {console.word(location)}")
    vision.show_export(predictions.classifier.module, screen, WIDTH)
    for image in predictions.images:
        screen.print(f"\n[bold]{console.word(str(image.file))}[/]")
        screen.print(prediction_tables.classes(image.classes))


def _show_graph(predictions: GraphPredictions, screen: Console, score: float) -> None:
    network = predictions.network
    manifest = network.weights.manifest
    screen.print(f"[bold]model[/]  {console.word(manifest.model)}: {network.task}")
    if location := str(network.weights.location):
        screen.print(f"[bold]read[/]   {console.word(location)}")
    vision.show_export(network.module, screen, WIDTH)
    height, width = network.size
    screen.print(f"[bold]input[/]  {height}x{width}, {network.normalization.description}")
    screen.print(f"[bold]names[/]  {console.word(predictions.classes.origin)}")
    for image in predictions.images:
        screen.print(f"\n[bold]{console.word(str(image.file))}[/]")
        screen.print(prediction_tables.of(network.task, image, score))
    drawings = [image.drawing for image in predictions.images if image.drawing]
    for drawing in dict.fromkeys(drawings):
        screen.print(f"[green]wrote[/]  {console.word(str(drawing))}")
