"""Classify images: the most probable classes, with their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.choices import TOP
from converter.formats.state_dicts import Location  # noqa: TC001 - evaluated
from converter.progress import silent
from converter.vision import classifier, images
from converter.vision.images import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from converter.progress import Progress
    from converter.vision.classifier import Classifier, ClassifierOptions


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class, by index and name, and its probability, from 0 to 1."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable classes of an image, in descending order."""

    file: Path
    classes: tuple[ClassProbability, ...]


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """The images to classify and the network.

    Attributes:
        paths: image files and folders of images.
        options: the weights and how to run them.
        top: number of classes per image.
    """

    paths: tuple[Path, ...]
    options: ClassifierOptions
    top: int = TOP


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions for all images, and the network that made them."""

    classifier: Classifier
    images: tuple[Prediction, ...]

    @property
    def warning(self) -> str:
        """The reason not to rely on the weights, "" if none is known."""
        return self.classifier.warning


def predict(request: PredictionRequest, progress: Progress = silent) -> Predictions:
    """Classify images.

    Raises:
        ImageError: if an image cannot be read, or a package for images is not installed.
        ConversionError: if the weights cannot be loaded, as in ``classifier.load``.
    """
    paths = images.find_images(request.paths)
    loaded = classifier.load(request.options, progress)
    labels = classifier.class_names(loaded)
    predictions: list[Prediction] = []
    for batch in images.batches(Inputs(paths, loaded.transform), request.options.batch_size):
        probabilities, numbers = loaded.probabilities(batch).topk(min(request.top, len(labels)))
        for row in zip(numbers.tolist(), probabilities.tolist(), strict=True):
            classes = (
                ClassProbability(number, labels[number], value) for number, value in zip(*row, strict=True)
            )
            predictions.append(Prediction(paths[len(predictions)], tuple(classes)))
        progress("images", len(predictions), len(paths))
    return Predictions(loaded, tuple(predictions))


class ClassRecord(Struct, frozen=True, kw_only=True, rename={"index": "class"}):
    """A class, its name and its probability."""

    index: int
    label: str
    probability: float


class ImageRecord(Struct, frozen=True, kw_only=True):
    """An image and its most probable classes."""

    file: str
    top: tuple[ClassRecord, ...]


class PredictionRecord(Struct, frozen=True, kw_only=True, tag_field="task", tag="classification"):
    """The document of ``gluon2torch predict`` for a network that classifies images.

    Attributes:
        model: name of the model.
        weights: file of the weights.
        preprocessing: how an image becomes an input.
        state_dict: where the weights are in their file.
        backend: library that ran the network.
        device: its device.
        warning: why the result may mean little, null without a reason.
        images: the images.
        input: shape of the input of a converted graph; null for a network that has a name.
        class_names: where the class names of a converted graph come from, likewise.
    """

    model: str
    weights: str
    preprocessing: str
    state_dict: Location
    backend: str
    device: str
    warning: str | None
    images: tuple[ImageRecord, ...]
    input: tuple[int, ...] | None = None
    class_names: str | None = None


def document(predictions: Predictions, options: ClassifierOptions) -> PredictionRecord:
    """Return the JSON document of predictions."""
    return PredictionRecord(
        model=predictions.classifier.model.name,
        weights=str(predictions.classifier.file),
        preprocessing=options.preprocessing.value,
        state_dict=predictions.classifier.location,
        backend=options.backend.value,
        device=predictions.classifier.device,
        warning=predictions.classifier.warning or None,
        images=tuple(
            ImageRecord(file=str(image.file), top=class_records(image.classes))
            for image in predictions.images
        ),
    )


def class_records(classes: Iterable[ClassProbability]) -> tuple[ClassRecord, ...]:
    """Return the records of the classes of an image."""
    return tuple(
        ClassRecord(index=entry.index, label=entry.label, probability=entry.probability) for entry in classes
    )
