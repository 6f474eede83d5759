"""Measure top-1 and top-5 accuracy on a folder with one subfolder of images per class.

Under ``torchrun``, process k of n evaluates the images k, k + n, …, and none is counted twice to fill a
batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import EvaluationError
from converter.networks import catalog
from converter.progress import silent
from converter.vision import classifier, images, processes
from converter.vision.images import Inputs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.progress import Progress
    from converter.vision.classifier import Classifier, ClassifierOptions
    from converter.vision.processes import ProcessRank

TOP = 5


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The images and the network to evaluate.

    Attributes:
        folder: has a subfolder of images for each class.
        terms: the weights and how to run them.
        workers: number of processes that prepare images, 0 for the current one.
    """

    folder: Path
    terms: ClassifierOptions
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The counts of an evaluation, which are the same in all processes.

    Attributes:
        classifier: the network.
        images: number of images.
        first: number of images whose class has the largest logit.
        among_five: number of images whose class has one of the five largest logits.
        place: the rank of this process.
    """

    classifier: Classifier
    images: int
    first: int
    among_five: int
    place: ProcessRank

    @property
    def top1(self) -> float:
        """Top-1 accuracy, in percent."""
        return 100 * self.first / self.images

    @property
    def top5(self) -> float:
        """Top-5 accuracy, in percent."""
        return 100 * self.among_five / self.images


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluation:
    """Classify all images and count the correct ones, over all processes.

    Raises:
        EvaluationError: if the folder does not fit the network's classes, or images were missed.
        ImageError: if an image cannot be read, or a package for images is not installed.
        ProcessesError: if another process has stopped.
        ConversionError: if the weights cannot be loaded, as in ``classifier.load``.
    """
    classes, samples = listed(request.folder)
    loaded = classifier.load(request.terms)
    order = numbered(classes, loaded, request.folder)
    targets = [(path, order[number]) for path, number in samples]
    with processes.joined() as place:
        own = targets[place.number :: place.count]
        counts = _count(loaded, own, request, silent if place.number else progress)
        seen, first, among_five = processes.total(counts, place)
    if seen != len(targets):
        raise EvaluationError(f"{request.folder}: {len(targets)} images expected, {seen} counted")
    return Evaluation(loaded, seen, first, among_five, place)


def listed(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """List a folder as torchvision's ``ImageFolder`` does.

    Returns:
        The sorted names of the classes, and each image with the index of its class.

    Raises:
        EvaluationError: if the folder does not exist or has no subfolders.
        ImageError: if subfolders contain no image, with all of them.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise EvaluationError(f"{folder}: a folder for each class expected, none found")
    indices = {name: index for index, name in enumerate(classes)}
    paths = images.find([folder / name for name in classes])
    return classes, [(path, indices[path.relative_to(folder).parts[0]]) for path in paths]


def numbered(classes: Sequence[str], loaded: Classifier, folder: Path) -> list[int]:
    """Return the index of the network's class for each folder.

    Folders are matched by the class names; without them, the sorted folders are the classes in order.

    Raises:
        EvaluationError: if the network has one logit, or the number or names of the folders differ.
    """
    expected = loaded.model.config.num_classes
    if expected == 1:
        raise EvaluationError(f"{loaded.file}: a network with one logit has no top-1 accuracy")
    if len(classes) != expected:
        raise EvaluationError(
            f"{folder}: {expected} folders expected, for so many classes has the head; {len(classes)} found"
        )
    if not loaded.labels:
        return list(range(expected))
    missing = sorted(set(loaded.labels) - set(classes))
    unexpected = sorted(set(classes) - set(loaded.labels))
    if missing or unexpected:
        lines = [f"missing     {name}" for name in missing]
        lines += [f"unexpected  {name}" for name in unexpected]
        headline = f"{folder}: the folders are not named as the manifest's classes"
        raise EvaluationError("\n  ".join([headline, *names.shorten(lines)]))
    return [loaded.labels.index(name) for name in classes]


def document(found: Evaluation, request: EvaluationRequest) -> dict[str, Any]:
    """Return an evaluation as a JSON document; accuracies are in percent."""
    return {
        "model": found.classifier.model.name,
        "weights": str(found.classifier.file),
        "folder": str(request.folder),
        "preprocessing": request.terms.preprocessing.value,
        "device": found.classifier.device,
        "warning": found.classifier.warning or None,
        "processes": found.place.count,
        "images": found.images,
        "correct": {"top1": found.first, "top5": found.among_five},
        "top1": found.top1,
        "top5": found.top5,
        "published": published(found.classifier),
    }


def published(loaded: Classifier) -> dict[str, Any] | None:
    """Return the accuracy that GluonCV published for the network and its number of classes, if any.

    ``top1`` and ``top5`` are in percent; ``official`` is whether the manifest says that GluonCV
    published the weights.
    """
    entry = loaded.model.entry
    published_classes = catalog.find(loaded.model.name).config.num_classes
    if entry.top1 is None or loaded.model.config.num_classes != published_classes:
        return None
    return {"top1": entry.top1, "top5": entry.top5, "official": loaded.official}


def _count(
    loaded: Classifier, own: Sequence[tuple[Path, int]], request: EvaluationRequest, progress: Progress
) -> list[int]:
    """Return this process's number of images, of top-1 hits and of top-5 hits."""
    import torch  # noqa: PLC0415 - takes more than a second

    inputs = Inputs(tuple(path for path, _ in own), loaded.transform)
    targets = torch.tensor([number for _, number in own])
    top = min(TOP, loaded.model.config.num_classes)
    seen = first = among_five = 0
    for batch in images.batches(inputs, request.terms.batch_size, request.workers):
        ranked = loaded.logits(batch).topk(top).indices
        hits = ranked == targets[seen : seen + len(batch), None]
        seen += len(batch)
        first += int(hits[:, 0].sum())
        among_five += int(hits.any(dim=1).sum())
        progress("images", seen, len(own))
    return [seen, first, among_five]
