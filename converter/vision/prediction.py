"""What a network takes images for: its most probable classes, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.choices import TOP
from converter.progress import silent
from converter.vision import classifier, images
from converter.vision.images import Inputs

if TYPE_CHECKING:
    from pathlib import Path

    from converter.progress import Progress
    from converter.vision.classifier import Classifier, ClassifierOptions


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class and its probability, from 0 to 1."""

    number: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an image is taken for, the most probable first."""

    file: Path
    guesses: tuple[ClassProbability, ...]


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Images and folders of them, the terms, and how many classes are wanted of each image."""

    places: tuple[Path, ...]
    terms: ClassifierOptions
    top: int = TOP


@dataclass(frozen=True, slots=True)
class Predictions:
    """All that was found, and the network that found it."""

    classifier: Classifier
    images: tuple[Prediction, ...]


def predict(request: PredictionRequest, progress: Progress = silent) -> Predictions:
    """Send images through a network.

    Errors: ``ImageError``, and those of ``classifier.load``.
    """
    paths = images.find(request.places)
    loaded = classifier.load(request.terms)
    called = classifier.names(loaded)
    found: list[Prediction] = []
    for batch in images.batches(Inputs(paths, loaded.transform), request.terms.batch_size):
        probabilities, numbers = loaded.probabilities(batch).topk(min(request.top, len(called)))
        for row in zip(numbers.tolist(), probabilities.tolist(), strict=True):
            guesses = (
                ClassProbability(number, called[number], value) for number, value in zip(*row, strict=True)
            )
            found.append(Prediction(paths[len(found)], tuple(guesses)))
        progress("images", len(found), len(paths))
    return Predictions(loaded, tuple(found))


def document(found: Predictions, terms: ClassifierOptions) -> dict[str, Any]:
    """Return what was found as JSON has it."""
    return {
        "model": found.classifier.model.name,
        "weights": str(found.classifier.file),
        "preprocessing": terms.preprocessing.value,
        "device": found.classifier.device,
        "warning": found.classifier.warning or None,
        "images": [
            {
                "file": str(image.file),
                "top": [
                    {"class": guess.number, "label": guess.label, "probability": guess.probability}
                    for guess in image.guesses
                ],
            }
            for image in found.images
        ],
    }
