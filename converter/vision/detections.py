"""Read the objects and the masks in an image from the outputs of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.vision import placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from converter.vision.class_lists import ClassList
    from converter.vision.placement import Placement

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """An object in an image.

    Attributes:
        index: its class.
        label: the name of its class.
        score: its score, from 0 to 1.
        box: its box, in pixels of the image.
    """

    index: int
    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassShare:
    """The share of the pixels that belong to a class, from 0 to 1."""

    index: int
    label: str
    share: float


def objects(
    outputs: Sequence[Tensor], placed: Placement, classes: ClassList, least: float
) -> tuple[Detection, ...]:
    """Return the objects whose score is at least ``least``, in descending order.

    Rows with a negative class or score are no objects: the network fills its outputs with -1.

    Shape:
        outputs: (1, k, 1) or (1, k), the same, (1, k, 4)
    """
    ids, scores, boxes = (output.reshape(output.shape[1], -1).tolist() for output in outputs)
    found = [
        Detection(
            index=int(number), label=classes.name(int(number)), score=score, box=placed.box(tuple(corners))
        )
        for (number,), (score,), corners in zip(ids, scores, boxes, strict=True)
        if number >= 0 and score >= max(least, 0)
    ]
    return tuple(sorted(found, key=lambda each: -each.score))


def mask(output: Tensor, placed: Placement, size: tuple[int, int]) -> Tensor:
    """Return the class of each pixel of an image.

    Args:
        output: the scores.
        placed: where the image is in the input.
        size: height and width of the input.

    Shape:
        output: (1, classes, h, w)
        return: the size of the image
    """
    scores = (output - output.max()).exp()  # as in MultiEvalModel, but for a factor
    if scores.shape[2:] != size:
        scores = placement.resize(scores, size)
    height, width = placed.size
    inner = round(height * placed.scale[1]), round(width * placed.scale[0])
    return placement.resize(scores[..., : inner[0], : inner[1]], placed.size)[0].argmax(dim=0)


def shares(classified: Tensor, classes: ClassList) -> tuple[ClassShare, ...]:
    """Return the classes of a mask in descending order of their shares.

    Shape:
        classified: (h, w)
    """
    counts: list[int] = classified.flatten().bincount().tolist()
    found = [
        ClassShare(index=number, label=classes.name(number), share=count / classified.numel())
        for number, count in enumerate(counts)
        if count
    ]
    return tuple(sorted(found, key=lambda each: -each.share))
