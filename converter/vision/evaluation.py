"""Measure top-1 and top-5 accuracy on a folder with one subfolder of images per class.

Under ``torchrun``, process k of n evaluates the images k, k + n, …, and none is counted twice to fill a
batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from converter import names
from converter.choices import TOP
from converter.errors import EvaluationError
from converter.formats.state_dicts import Location  # noqa: TC001 - evaluated
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


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The images and the network to evaluate.

    Attributes:
        folder: has a subfolder of images for each class.
        options: the weights and how to run them.
        workers: number of processes that prepare images, 0 for the current one.
    """

    folder: Path
    options: ClassifierOptions
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The counts of an evaluation, which are the same in all processes.

    Attributes:
        classifier: the network.
        images: number of images.
        top1_hits: number of images whose class has the largest logit.
        top5_hits: number of images whose class has one of the five largest logits.
        process: the rank of this process.
    """

    classifier: Classifier
    images: int
    top1_hits: int
    top5_hits: int
    process: ProcessRank

    @property
    def top1(self) -> float:
        """Top-1 accuracy, in percent."""
        return 100 * self.top1_hits / self.images

    @property
    def top5(self) -> float:
        """Top-5 accuracy, in percent."""
        return 100 * self.top5_hits / self.images


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluation:
    """Classify all images and count the correct ones, over all processes.

    Raises:
        EvaluationError: if the folder does not fit the network's classes, or images were missed.
        ImageError: if an image cannot be read, or a package for images is not installed.
        ProcessesError: if another process has stopped.
        ConversionError: if the weights cannot be loaded, as in ``classifier.load``.
    """
    classes, samples = list_samples(request.folder)
    loaded = classifier.load(request.options, progress)
    indices = class_indices(classes, loaded, request.folder)
    targets = [(path, indices[number]) for path, number in samples]
    with processes.process_group() as process:
        own = targets[process.rank :: process.world_size]
        counts = _count(loaded, own, request, silent if process.rank else progress)
        seen, top1_hits, top5_hits = processes.sum_counts(counts, process)
    if seen != len(targets):
        raise EvaluationError(f"{request.folder}: expected {len(targets)} images, evaluated {seen}")
    return Evaluation(loaded, seen, top1_hits, top5_hits, process)


def list_samples(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
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
        raise EvaluationError(f"{folder}: expected a subfolder for each class, found none")
    indices = {name: index for index, name in enumerate(classes)}
    paths = images.find_images([folder / name for name in classes])
    return classes, [(path, indices[path.relative_to(folder).parts[0]]) for path in paths]


def class_indices(classes: Sequence[str], loaded: Classifier, folder: Path) -> list[int]:
    """Return the index of the network's class for each folder.

    Folders are matched by the class names; without them, the sorted folders are the classes in order.

    Raises:
        EvaluationError: if the network has one logit, or the number or names of the folders differ.
    """
    expected = loaded.model.config.num_classes
    if expected == 1:
        raise EvaluationError(f"{loaded.file}: top-1 accuracy is not defined for a network with one logit")
    if len(classes) != expected:
        raise EvaluationError(
            f"{folder}: expected {expected} subfolders, one per class of the network, found {len(classes)}"
        )
    if not loaded.labels:
        return list(range(expected))
    missing = sorted(set(loaded.labels) - set(classes))
    unexpected = sorted(set(classes) - set(loaded.labels))
    if missing or unexpected:
        lines = [f"missing     {name}" for name in missing]
        lines += [f"unexpected  {name}" for name in unexpected]
        headline = f"{folder}: the subfolders do not match the class names of the weights"
        raise EvaluationError("\n  ".join([headline, *names.shorten(lines)]))
    return [loaded.labels.index(name) for name in classes]


class CorrectRecord(Struct, frozen=True, kw_only=True):
    """The number of images whose class is the first, or among the first five."""

    top1: int
    top5: int


class PublishedFigures(Struct, frozen=True, kw_only=True):
    """The published accuracy in percent, and whether GluonCV published these weights."""

    top1: float
    top5: float | None
    official: bool


class EvaluationRecord(Struct, frozen=True, kw_only=True):
    """The document of ``gluon2torch evaluate``.

    Attributes:
        model: name of the model.
        weights: file of the weights.
        folder: folder of the images.
        preprocessing: how an image becomes an input.
        state_dict: where the weights are in their file.
        backend: library that ran the network.
        device: its device.
        warning: why the result may mean little, null without a reason.
        processes: number of processes.
        images: number of images.
        correct: numbers of correct images.
        top1: accuracy in percent.
        top5: accuracy of the first five classes in percent.
        published: what GluonCV published for this network, null without any.
    """

    model: str
    weights: str
    folder: str
    preprocessing: str
    state_dict: Location
    backend: str
    device: str
    warning: str | None
    processes: int
    images: int
    correct: CorrectRecord
    top1: float
    top5: float
    published: PublishedFigures | None


def document(evaluation: Evaluation, request: EvaluationRequest) -> EvaluationRecord:
    """Return the JSON document of an evaluation."""
    return EvaluationRecord(
        model=evaluation.classifier.model.name,
        weights=str(evaluation.classifier.file),
        folder=str(request.folder),
        preprocessing=request.options.preprocessing.value,
        state_dict=evaluation.classifier.location,
        backend=request.options.backend.value,
        device=evaluation.classifier.device,
        warning=evaluation.classifier.warning or None,
        processes=evaluation.process.world_size,
        images=evaluation.images,
        correct=CorrectRecord(top1=evaluation.top1_hits, top5=evaluation.top5_hits),
        top1=evaluation.top1,
        top5=evaluation.top5,
        published=published(evaluation.classifier),
    )


def published(loaded: Classifier) -> PublishedFigures | None:
    """Return the accuracy that GluonCV published for exactly this network, if any."""
    entry = loaded.model.entry
    if entry.top1 is None or loaded.model != catalog.find(loaded.model.name):
        return None
    return PublishedFigures(top1=entry.top1, top5=entry.top5, official=loaded.official)


def _count(
    loaded: Classifier, samples: Sequence[tuple[Path, int]], request: EvaluationRequest, progress: Progress
) -> list[int]:
    """Return this process's number of images, of top-1 hits and of top-5 hits."""
    import torch  # noqa: PLC0415 - takes more than a second

    inputs = Inputs(tuple(path for path, _ in samples), loaded.transform)
    targets = torch.tensor([number for _, number in samples])
    top = min(TOP, loaded.model.config.num_classes)
    seen = top1_hits = top5_hits = 0
    for batch in images.batches(inputs, request.options.batch_size, request.workers):
        ranked = loaded.logits(batch).topk(top).indices
        hits = ranked == targets[seen : seen + len(batch), None]
        seen += len(batch)
        top1_hits += int(hits[:, 0].sum())
        top5_hits += int(hits.any(dim=1).sum())
        progress("images", seen, len(samples))
    return [seen, top1_hits, top5_hits]
