"""Boxes of detectors on arrays, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from converter.dtypes import Array


def overlap(one: Array, others: Array, *, center: bool = False) -> Array:
    """Return the intersection over union of a box (4) with others (count, 4)."""
    if center:
        one, others = ranges(one), ranges(others)
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    common = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], 0)
    union = area(one[None]) + area(others) - common
    ratio: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ratio


def area(boxes: Array) -> Array:
    """Return the area of boxes (count, 4) given by their corners."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.where((width < 0) | (height < 0), 0, width * height)


def ranges(boxes: Array) -> Array:
    """Return centers and sizes as corners."""
    corners = boxes.copy()
    corners[..., :2] = boxes[..., :2] - boxes[..., 2:] / 2
    corners[..., 2:] = boxes[..., :2] + boxes[..., 2:] / 2
    return corners


def decode(x: Array, anchors: Array, deviations: tuple[float, ...], clip: float, *, corner: bool) -> Array:
    """Return the corners of the boxes that offsets to anchors describe."""
    width, height = anchors[..., 2], anchors[..., 3]
    left, top = anchors[..., 0], anchors[..., 1]
    if corner:
        width, height = width - left, height - top
        left, top = left + width / 2, top + height / 2
    x_offset, y_offset, wide, high = (x[..., at] * deviations[at] for at in range(4))
    if clip > 0:
        wide, high = np.minimum(wide, clip), np.minimum(high, clip)
    center_x, center_y = x_offset * width + left, y_offset * height + top
    half_width, half_height = np.exp(wide) * width / 2, np.exp(high) * height / 2
    return np.stack(
        [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height], -1
    )


class Suppression(TypedDict):
    """The options of a non-maximum suppression, by MXNet's names; a format is center, or else corner."""

    overlap_thresh: float
    valid_thresh: float
    topk: int
    coord_start: int
    score_index: int
    id_index: int
    background_id: int
    force_suppress: bool
    in_center: bool
    out_center: bool


def nms(rows: Array, options: Suppression) -> Array:
    """Suppress the boxes of (boxes, columns) that better ones overlap."""
    id_index, start, center = options["id_index"], options["coord_start"], options["in_center"]
    scores, classes = rows[:, options["score_index"]], rows[:, id_index].astype(np.int64)
    order = [
        place
        for place in np.argsort(-scores, kind="stable")
        if scores[place] > options["valid_thresh"]
        and (min(id_index, options["background_id"]) < 0 or rows[place, id_index] != options["background_id"])
    ]
    anyone = options["force_suppress"] or id_index < 0
    boxes = rows[:, start : start + 4]
    kept: list[int] = []
    for place in order if options["topk"] < 0 else order[: options["topk"]]:
        rivals = [each for each in kept if anyone or classes[each] == classes[place]]
        if not (overlap(boxes[place], boxes[rivals], center=center) > options["overlap_thresh"]).any():
            kept.append(place)
    y = np.full_like(rows, -1)
    y[: len(kept)] = rows[kept]
    for row in y if center != options["out_center"] else ():
        box = row[start : start + 4]
        if box[0] >= 0:
            box[:] = ranges(box) if center else [*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])]
    return y


def priors(
    shape: tuple[int, int],
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    steps: tuple[float, ...],
    offsets: tuple[float, ...],
) -> Array:
    """Return the default boxes (h · w · kinds, 4) of a feature map (h, w)."""
    height, width = shape
    step_y = steps[0] if steps[0] > 0 else 1 / height
    step_x = steps[1] if steps[1] > 0 else 1 / width
    kinds = [(size, ratios[0]) for size in sizes] + [(sizes[0], ratio) for ratio in ratios[1:]]
    boxes = []
    for row in range(height):
        for column in range(width):
            y, x = (row + offsets[0]) * step_y, (column + offsets[1]) * step_x
            for size, ratio in kinds:
                half_width = size * height / width * np.sqrt(ratio) / 2
                half_height = size / np.sqrt(ratio) / 2
                boxes.append((x - half_width, y - half_height, x + half_width, y + half_height))
    return np.array(boxes)


def detection(
    scores: Array,
    boxes: Array,
    *,
    threshold: float,
    nms_threshold: float,
    force_suppress: bool,
    nms_topk: int,
) -> Array:
    """Return (class, score, corners) of boxes (count, 4) from scores (classes, count), background first."""
    y = np.full((len(boxes), 6), -1.0, scores.dtype)
    best = scores[1:].argmax(0)
    chosen = [place for place in range(len(boxes)) if scores[best[place] + 1, place] >= threshold]
    rows = np.array([(best[place], scores[best[place] + 1, place], *boxes[place]) for place in chosen])
    y[: len(rows)] = rows.reshape(-1, 6)
    if not chosen or not 0 < nms_threshold <= 1:
        return y
    order = np.argsort(-rows[:, 1], kind="stable")[: nms_topk if nms_topk > 0 else None]
    y[: len(order)] = rows[order]
    y[len(order) :, 0] = -1
    for place in range(len(order)):
        if y[place, 0] < 0:
            continue
        later = y[place + 1 : len(order)]
        removed = overlap(y[place, 2:], later[:, 2:]) >= nms_threshold
        later[removed & (force_suppress | (later[:, 0] == y[place, 0])), 0] = -1
    return y
