"""The names of the classes of known data sets, and the choice of a list for a network."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import Dataset, PredictionTask
from converter.errors import LabelsError, UsageError
from converter.formats import labels as label_files
from converter.networks import mapping
from resnext_torch import class_names as imagenet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOLDER = "classes"  # in that of the mapping files
COMMENT = "#"
MAX_CLASSES = 10_000  # of a detector
FILES = {
    (Dataset.voc, PredictionTask.detection): "voc_detection.txt",
    (Dataset.coco, PredictionTask.detection): "coco_detection.txt",
    (Dataset.voc, PredictionTask.segmentation): "voc_segmentation.txt",
    (Dataset.coco, PredictionTask.segmentation): "voc_segmentation.txt",  # GluonCV's are VOC's, too
    (Dataset.ade20k, PredictionTask.segmentation): "ade20k.txt",
    (Dataset.citys, PredictionTask.segmentation): "citys.txt",
}
TITLES = {
    Dataset.voc: "Pascal VOC",
    Dataset.coco: "COCO",
    Dataset.ade20k: "ADE20K",
    Dataset.citys: "Cityscapes",
    Dataset.imagenet: "ImageNet",
}


@dataclass(frozen=True, slots=True)
class ClassList:
    """The names of classes.

    Attributes:
        names: the names, in the order of the classes; numbers if none are known.
        origin: where they come from.
    """

    names: tuple[str, ...]
    origin: str

    def name(self, index: int) -> str:
        """Return the name of a class; without a list, its number.

        Raises:
            LabelsError: if the list has no such class.
        """
        if not self.names:
            return str(index)
        if index >= len(self.names):
            raise LabelsError(
                f"{self.origin}: {len(self.names)} class names, and the network found class {index}\n"
                "  try         --labels FILE, with one name per line"
            )
        return self.names[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassListRequest:
    """Where class names were requested from, if anywhere.

    Attributes:
        labels: a file of names, one per line.
        dataset: a known data set.
    """

    labels: Path | None = None
    dataset: Dataset | None = None


@functools.cache
def names(dataset: Dataset, task: PredictionTask) -> tuple[str, ...]:
    """Return the names of a data set's classes for a task; none if it has no such task."""
    if dataset is Dataset.imagenet:
        return imagenet.imagenet() if task is PredictionTask.classification else ()
    if (dataset, task) not in FILES:
        return ()
    text = (mapping.folder() / FOLDER / FILES[dataset, task]).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith(COMMENT))


def choose(request: ClassListRequest, task: PredictionTask, fits: Callable[[int], bool]) -> ClassList:
    """Return the class names of a network: those requested, else those of the only data set that fits.

    Args:
        request: the requested names.
        task: what the network computes.
        fits: whether the network can have a number of classes.

    Raises:
        LabelsError: if the names are not those of a network with this number of classes.
        UsageError: if the data set has no such task.
    """
    if request.labels is not None:
        found = label_files.read_any(request.labels)
        _require_fit(str(request.labels), found, fits)
        return ClassList(found, str(request.labels))
    if (dataset := request.dataset) is not None:
        found = names(dataset, task)
        if not found:
            raise UsageError(f"`dataset`: {dataset} has no class names for {task}", "dataset")
        _require_fit(f"--dataset {dataset}", found, fits)
        return ClassList(found, TITLES[dataset])
    known = {names(dataset, task): dataset for dataset in reversed(Dataset)}  # VOC's names before COCO's
    matches = [(found, dataset) for found, dataset in known.items() if found and fits(len(found))]
    if len(matches) == 1:
        found, dataset = matches[0]
        return ClassList(found, f"{TITLES[dataset]}, assumed from the number of classes, {len(found)}")
    return ClassList((), "unknown: classes are shown by number")


def _require_fit(origin: str, found: tuple[str, ...], fits: Callable[[int], bool]) -> None:
    """Refuse another number of names than the network has classes, if that number is known."""
    if not fits(len(found)) and any(map(fits, range(1, MAX_CLASSES))):
        raise LabelsError(
            f"{origin}: {len(found)} class names, and the network has another number of classes"
        )
