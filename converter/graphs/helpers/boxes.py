"""Boxes of detectors: decoding, overlaps and non-maximum suppression. No shape depends on values."""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """Return (x, y, width, height) as (left, top, right, bottom)."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def box_area(boxes: Tensor) -> Tensor:
    """Return the area of (left, top, right, bottom), 0 if a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def box_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of boxes (..., 4) given by their corners, NaN if both are empty."""
    left, top, right, bottom = one.unbind(-1)
    other_left, other_top, other_right, other_bottom = other.unbind(-1)
    width = torch.minimum(right, other_right) - torch.maximum(left, other_left)
    height = torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)
    common = width.clamp(min=0) * height.clamp(min=0)
    return common / (box_area(one) + box_area(other) - common)


def box_iou(one: Tensor, other: Tensor, *, center: bool) -> Tensor:
    """Return the intersection over union of every two boxes of (..., 4) and (..., 4)."""
    one, other = (to_corners(one), to_corners(other)) if center else (one, other)
    overlap = box_overlap(one.reshape(-1, 1, 4), other.reshape(1, -1, 4)).nan_to_num(0)
    return overlap.reshape(one.shape[:-1] + other.shape[:-1])


def box_decode(
    x: Tensor, anchors: Tensor, *, deviations: tuple[float, ...], clip: float, corner: bool
) -> Tensor:
    """Return the corners of the boxes that offsets to anchors describe.

    Args:
        x: offsets of the center, in sizes of the anchor, and logarithms of the relative size: (n, boxes, 4).
        anchors: (1, boxes, 4), their corners, or their centers and sizes.
        deviations: the factors of the offsets.
        clip: the limit of the logarithms, none if it is not positive.
        corner: whether anchors are corners.
    """
    if corner:
        size = anchors[..., 2:] - anchors[..., :2]
        center = anchors[..., :2] + size * 0.5
    else:
        center, size = anchors[..., :2], anchors[..., 2:]
    scaled = x * torch.tensor(deviations, dtype=x.dtype, device=x.device)
    growth = scaled[..., 2:].clamp(max=clip) if clip > 0 else scaled[..., 2:]
    middle = scaled[..., :2] * size + center
    half = growth.exp() * size * 0.5
    return torch.cat([middle - half, middle + half], -1)


def suppress(
    boxes: Tensor, classes: Tensor | None, kept: Tensor, threshold: float, *, inclusive: bool
) -> Tensor:
    """Return which boxes remain if each removes the later ones of its class that overlap it too much.

    Args:
        boxes: (n, boxes, 4), their corners, the best first.
        classes: (n, boxes), None if all have the same.
        kept: (n, boxes), which take part.
        threshold: the overlap.
        inclusive: whether this overlap itself is too much.
    """
    count = boxes.shape[1]
    rows = max(1, 1_000_000 // max(1, kept.numel()))  # compared with all at a time
    kept = kept.clone()
    for begin in range(0, count, rows):
        block = slice(begin, begin + rows)
        overlap = box_overlap(boxes[:, block, None], boxes[:, None, begin:])
        removed = overlap >= threshold if inclusive else overlap > threshold
        if classes is not None:
            removed = removed & (classes[:, block, None] == classes[:, None, begin:])
        for place in range(min(rows, count - begin)):
            mine = kept[:, begin + place, None]
            kept[:, begin + place + 1 :] &= ~(removed[:, place, place + 1 :] & mine)
    return kept


def select(rows: Tensor, order: Tensor) -> Tensor:
    """Return the rows (n, count, columns) at places (n, count)."""
    return rows.gather(1, order.unsqueeze(-1).expand(-1, -1, rows.shape[2]))


def box_nms(
    x: Tensor,
    *,
    overlap_thresh: float,
    valid_thresh: float,
    topk: int,
    coord_start: int,
    score_index: int,
    id_index: int,
    background_id: int,
    force_suppress: bool,
    in_center: bool,
    out_center: bool,
) -> Tensor:
    """Sort boxes by their scores, and replace those that better ones overlap, at the end, with -1.

    Shape:
        x: (..., boxes, columns), with a score and four coordinates at the given columns.
        output: as x.
    """
    rows = x.reshape(-1, x.shape[-2], x.shape[-1])
    count = rows.shape[1] if topk < 0 else min(topk, rows.shape[1])
    valid = rows[..., score_index] > valid_thresh
    if id_index >= 0 and background_id >= 0:
        valid = valid & (rows[..., id_index] != background_id)
    scores = torch.where(valid, rows[..., score_index], -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
    best = select(rows, order)
    boxes = best[..., coord_start : coord_start + 4]
    classes = best[..., id_index].long() if id_index >= 0 and not force_suppress else None
    corners = to_corners(boxes) if in_center else boxes
    kept = suppress(corners, classes, valid.gather(1, order), overlap_thresh, inclusive=False)
    first = (~kept).long().sort(dim=1, stable=True).indices
    best = torch.where(select(kept.unsqueeze(-1), first), select(best, first), -1)
    best = convert_format(best, coord_start, in_center=in_center, out_center=out_center)
    rest = torch.full_like(rows[:, count:], -1)
    return torch.cat([best, rest], 1).view_as(x)


def convert_format(rows: Tensor, start: int, *, in_center: bool, out_center: bool) -> Tensor:
    """Convert the boxes at columns ``start`` to ``start + 4``; as in MXNet, not those that begin below 0."""
    if in_center == out_center:
        return rows
    boxes = rows[..., start : start + 4]
    if out_center:
        size = boxes[..., 2:] - boxes[..., :2]
        converted = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, size], -1)
    else:
        converted = to_corners(boxes)
    converted = torch.where(boxes[..., :1] < 0, boxes, converted)
    return torch.cat([rows[..., :start], converted, rows[..., start + 4 :]], -1)


def multibox_prior(
    x: Tensor,
    *,
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    steps: tuple[float, ...],
    offsets: tuple[float, ...],
    clip: bool,
) -> Tensor:
    """Return the corners of the default boxes of an SSD around each element of a feature map.

    Shape:
        x: (n, channels, h, w)
        output: (1, h * w * (sizes + ratios - 1), 4)
    """
    height, width = x.shape[2:]
    step_y, step_x = (
        1 / size if step <= 0 else step for step, size in zip(steps, (height, width), strict=True)
    )
    y = (torch.arange(height, dtype=x.dtype, device=x.device) + offsets[0]) * step_y
    x_axis = (torch.arange(width, dtype=x.dtype, device=x.device) + offsets[1]) * step_x
    pairs = [(size, ratios[0]) for size in sizes] + [(sizes[0], ratio) for ratio in ratios[1:]]
    halves = [(size * height / width * ratio**0.5 / 2, size / ratio**0.5 / 2) for size, ratio in pairs]
    half = torch.tensor(halves, dtype=x.dtype, device=x.device)
    center = torch.stack(torch.meshgrid(y, x_axis, indexing="ij")[::-1], -1).reshape(-1, 1, 2)
    boxes = torch.cat([center - half, center + half], -1).reshape(1, -1, 4)
    return boxes.clamp(0, 1) if clip else boxes


def multibox_detection(
    scores: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    *,
    clip: bool,
    threshold: float,
    nms_threshold: float,
    force_suppress: bool,
    variances: tuple[float, ...],
    nms_topk: int,
) -> Tensor:
    """Return (class, score, corners) of the boxes of an SSD, the best first; a suppressed one has class -1.

    Shape:
        scores: (n, classes, boxes), the background first.
        offsets: (n, 4 * boxes)
        anchors: (1, boxes, 4), their corners.
        output: (n, boxes, 6)
    """
    score, label = scores[:, 1:].max(1)
    boxes = box_decode(
        offsets.reshape(len(offsets), -1, 4), anchors, deviations=variances, clip=-1, corner=True
    )
    boxes = boxes.clamp(0, 1) if clip else boxes
    valid = score >= threshold
    rows = torch.cat([label.to(boxes).unsqueeze(-1), score.unsqueeze(-1), boxes], -1)
    rows = torch.where(valid.unsqueeze(-1), rows, -1)
    order = (~valid).long().sort(dim=1, stable=True).indices
    rows, valid = select(rows, order), valid.gather(1, order)
    if not 0 < nms_threshold <= 1:
        return rows
    count = min(nms_topk, rows.shape[1]) if nms_topk > 0 else rows.shape[1]
    ranks = torch.where(valid, rows[..., 1], -torch.inf)
    order = ranks.sort(dim=1, descending=True, stable=True).indices[:, :count]
    best = select(rows, order)
    classes = None if force_suppress else best[..., 0]
    kept = suppress(best[..., 2:], classes, valid.gather(1, order), nms_threshold, inclusive=True)
    named = torch.where(kept, best[..., 0], -1).unsqueeze(-1)
    rest = rows[:, count:]
    left_out = torch.cat([torch.full_like(rest[..., :1], -1), rest[..., 1:]], -1)
    return torch.cat([torch.cat([named, best[..., 1:]], -1), left_out], 1)
