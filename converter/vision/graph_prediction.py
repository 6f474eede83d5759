"""Classify images, find objects or segment them with the network of a converted graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.choices import SCORE, TOP, PredictionTask, Preprocessing
from converter.errors import ClassifierError, UsageError
from converter.manifests import converted_file
from converter.progress import silent
from converter.vision import class_lists, classifier, detections, drawing, images, placement
from converter.vision.class_lists import ClassListRequest
from converter.vision.prediction import ClassProbability

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from converter.progress import Progress
    from converter.vision.class_lists import ClassList
    from converter.vision.detections import ClassShare, Detection
    from converter.vision.graph_network import GraphNetwork

SUM_LIMIT = 1e-3  # of the difference from 1 of the sum of probabilities; 1e-6 measured for 1000 classes


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPredictionRequest:
    """What to predict.

    Attributes:
        paths: image files and folders of images.
        classes: where class names were requested from.
        preprocessing: of images for a classification.
        top: number of classes per image.
        score: the least score of an object, None for the default.
        draw: a file or folder for drawings, None for no drawings.
    """

    paths: tuple[Path, ...]
    classes: ClassListRequest = field(default_factory=ClassListRequest)
    preprocessing: Preprocessing = Preprocessing.bicubic
    top: int = TOP
    score: float | None = None
    draw: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """What the network found in an image; which of the results there are depends on its task.

    Attributes:
        file: the image.
        size: its height and width.
        classes: of a classification: the most probable classes.
        objects: of a detection: the objects.
        shares: of a segmentation: the classes of the pixels.
        drawing: the file of the drawing.
    """

    file: Path
    size: tuple[int, int]
    classes: tuple[ClassProbability, ...] = ()
    objects: tuple[Detection, ...] = ()
    shares: tuple[ClassShare, ...] = ()
    drawing: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPredictions:
    """The results for all images, the network, and the names of its classes."""

    network: GraphNetwork
    classes: ClassList
    warning: str
    images: tuple[ImageResult, ...]


def predict(
    network: GraphNetwork, request: GraphPredictionRequest, progress: Progress = silent
) -> GraphPredictions:
    """Run a network on images.

    Raises:
        ImageError: if an image cannot be read, or a package for images is not installed.
        LabelsError: if the class names are not those of the network.
        UsageError: if an option does not apply to the task.
    """
    _require_options(network.task, request)
    images.require_modules(*_modules(network.task, request))
    paths = images.find_images(request.paths)
    drawings = drawing.destinations(request.draw, paths) if request.draw else {}
    classes = class_lists.choose(request.classes, network.task, network.fits)
    results = []
    for path in paths:
        results.append(_result(network, request, classes, path, drawings.get(path)))
        progress("images", len(results), len(paths))
    return GraphPredictions(
        network=network,
        classes=classes,
        warning=converted_file.warning(network.weights.manifest),
        images=tuple(results),
    )


def _require_options(task: PredictionTask, request: GraphPredictionRequest) -> None:
    if request.draw is not None and task is PredictionTask.classification:
        raise UsageError("`draw` requires a network that finds objects or segments images", "draw")
    if request.score is not None and task is not PredictionTask.detection:
        raise UsageError("`score` requires a network that finds objects", "score")


def _modules(task: PredictionTask, request: GraphPredictionRequest) -> tuple[str, ...]:
    """Return the modules that images need."""
    if task is PredictionTask.classification:
        return classifier.REQUIRED_MODULES[request.preprocessing]
    resizing = ("cv2",) if task is PredictionTask.detection else ()
    return ("PIL", *resizing, *(("torchvision",) if request.draw else ()))


def _result(
    network: GraphNetwork, request: GraphPredictionRequest, classes: ClassList, path: Path, draw: Path | None
) -> ImageResult:
    image = images.open_rgb(path)
    size = image.height, image.width
    if network.task is PredictionTask.classification:
        found = _classes(network, request, classes, image)
        return ImageResult(file=path, size=size, classes=found)
    if network.task is PredictionTask.detection:
        objects = _objects(network, request, classes, image)
        if draw:
            drawing.save(drawing.boxes(image, objects), draw)
        return ImageResult(file=path, size=size, objects=objects, drawing=draw)
    inputs, placed = placement.fit(np.asarray(image), network.size, network.normalization)
    classified = detections.mask(network.run(inputs)[0], placed, network.size)
    if draw:
        drawing.save(drawing.masks(image, classified, classes), draw)
    return ImageResult(file=path, size=size, shares=detections.shares(classified, classes), drawing=draw)


def _classes(
    network: GraphNetwork,
    request: GraphPredictionRequest,
    classes: ClassList,
    image: Any,  # noqa: ANN401 - an image of Pillow, which is optional
) -> tuple[ClassProbability, ...]:
    """Return the most probable classes."""
    height, width = network.size
    if height != width:
        raise ClassifierError(
            f"{network.file}: an image is cropped to a square, and the input has {height}x{width} pixels\n"
            "  try         --size H"
        )
    from resnext_torch import create_transform  # noqa: PLC0415 - imports torch, which takes seconds

    normalization = network.normalization
    transform = create_transform(
        request.preprocessing.value,
        input_size=height,
        crop_pct=network.crop_pct,
        mean=normalization.mean,
        std=normalization.std,
    )
    probabilities = _probabilities(network.run(transform(image)[None])[0][0])
    values, numbers = probabilities.topk(min(request.top, len(probabilities)))
    return tuple(
        ClassProbability(number, classes.name(number), value)
        for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
    )


def _probabilities(scores: Tensor) -> Tensor:
    """Return the softmax, unless the graph ends in one: the scores are then probabilities themselves.

    Shape:
        (classes,) → (classes,)
    """
    is_softmax = bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < SUM_LIMIT
    return scores if is_softmax else scores.softmax(dim=0)


def _objects(
    network: GraphNetwork,
    request: GraphPredictionRequest,
    classes: ClassList,
    image: Any,  # noqa: ANN401 - as above
) -> tuple[Detection, ...]:
    place = placement.stretch if network.suppresses else placement.centre
    pixels, placed = place(np.asarray(image), network.size)
    outputs = network.run(placement.to_input(pixels, network.normalization))
    least = SCORE if request.score is None else request.score
    return detections.objects(outputs, placed, classes, least)
