"""Decide from the shapes of a network's outputs what it computes from an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.choices import PredictionTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.graphs.operators.code import Shape


def accepts(task: PredictionTask, outputs: Sequence[Shape]) -> bool:
    """Return whether outputs can be those of a task, for one image.

    * classification: (1, classes) comes first
    * detection: ids (1, k, 1), scores (1, k, 1) and boxes (1, k, 4); CenterNet's ids and scores are (1, k)
    * segmentation: (1, classes, h, w) comes first, of any size
    """
    match task, [*outputs]:
        case PredictionTask.classification, [(1, classes), *_]:
            return classes > 1
        case PredictionTask.detection, [(1, ids, *one), (1, scores, *other), (1, boxes, 4)] if (
            one == other in ([], [1])
        ):
            return ids == scores == boxes
        case PredictionTask.segmentation, [(1, classes, _, _), *_]:
            return classes > 1
    return False


def detect(outputs: Sequence[Shape], size: tuple[int, int]) -> PredictionTask | None:
    """Return the task of a network, None if its outputs are those of none.

    The scores of a segmentation have the size of the image, and those of a classification are the only
    output: other outputs of these shapes are features or embeddings.

    Args:
        outputs: the shapes for one image.
        size: height and width of that image.
    """
    if accepts(PredictionTask.detection, outputs):
        return PredictionTask.detection
    if accepts(PredictionTask.segmentation, outputs) and outputs[0][2:] == size:
        return PredictionTask.segmentation
    if accepts(PredictionTask.classification, outputs) and len(outputs) == 1:
        return PredictionTask.classification
    return None
