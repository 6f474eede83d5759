"""How often a network is right on a folder of images, one folder a class; by many processes too.

Under ``torchrun`` each process takes every so-many-th image, so that none is counted twice to fill a batch.
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
    """A folder with a folder of images for each class, the terms, and processes that prepare images."""

    folder: Path
    terms: ClassifierOptions
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How many images there are, and of how many the class is the first, or among the first five.

    ``place`` is this process's, among all that have the same result.
    """

    classifier: Classifier
    images: int
    first: int
    among_five: int
    place: ProcessRank

    @property
    def top1(self) -> float:
        """The share whose class is the first, in percent."""
        return 100 * self.first / self.images

    @property
    def top5(self) -> float:
        """The share whose class is among the first five, in percent."""
        return 100 * self.among_five / self.images


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluation:
    """Send every image through the network and count; in every process the result is that of all.

    Errors: ``EvaluationError``, ``ImageError``, ``ProcessesError``, and those of ``classifier.load``.
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
    """Return what torchvision's ``ImageFolder`` finds: the classes, sorted, and each image with its class.

    Errors: ``EvaluationError`` for no folder of folders; ``ImageError`` with all that have no image.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise EvaluationError(f"{folder}: a folder for each class expected, none found")
    number = {name: number for number, name in enumerate(classes)}
    paths = images.find([folder / name for name in classes])
    return classes, [(path, number[path.relative_to(folder).parts[0]]) for path in paths]


def numbered(classes: Sequence[str], loaded: Classifier, folder: Path) -> list[int]:
    """Return which of the network's classes each folder is: the one it is named as, or the next.

    Errors: ``EvaluationError`` where there are not as many, or others.
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
    """Return what was found as JSON has it; accuracies in percent."""
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
    """Return GluonCV's figures of the network, in percent, if there are any of so many classes.

    ``official``: whether the manifest says that the weights are those which GluonCV published.
    """
    entry = loaded.model.entry
    known = catalog.find(loaded.model.name).config.num_classes
    if entry.top1 is None or loaded.model.config.num_classes != known:
        return None
    return {"top1": entry.top1, "top5": entry.top5, "official": loaded.official}


def _count(
    loaded: Classifier, own: Sequence[tuple[Path, int]], request: EvaluationRequest, progress: Progress
) -> list[int]:
    """Return how many images of this process were seen, and hits among the first one and five."""
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
