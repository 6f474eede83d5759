"""Boxes of detectors: decoding, overlaps, non-maximum suppression, and the heads of an SSD.

Source: src/operator/contrib/{bounding_box,multibox_prior,multibox_detection}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators import box_arrays
from converter.graphs.operators.attributes import Single, Singles
from converter.graphs.operators.code import Code
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array

Format = Literal["center", "corner"]
DEVIATION, NO_CLIP, HALF, ZERO = Single(1.0), Single(-1.0), Single(0.5), Single(0.0)
HUNDREDTH = Single(0.009999999776482582)  # 0.01 in float32
VARIANCES = (0.10000000149011612, 0.10000000149011612, 0.20000000298023224, 0.20000000298023224)
BOX, PAIR = 4, 2


@operator("_contrib_box_decode")
def _box_decode(
    *,
    std0: Single = DEVIATION,
    std1: Single = DEVIATION,
    std2: Single = DEVIATION,
    std3: Single = DEVIATION,
    clip: Single = NO_CLIP,
    format: Format = "center",  # noqa: A002 - MXNet's name
) -> Operation:
    deviations, corner = (std0, std1, std2, std3), format == "corner"
    code = Code(
        f"box_decode({{0}}, {{1}}, deviations={deviations}, clip={clip!r}, corner={corner})",
        helpers=("box_decode",),
    )
    return other(
        "_contrib_box_decode",
        code,
        lambda x, anchors: box_arrays.decode(x, anchors, deviations, clip, corner=corner),
        data_inputs=2,
        keeps_rank=True,
    )


@operator("_contrib_box_iou")
def _box_iou(*, format: Format = "corner") -> Operation:  # noqa: A002 - MXNet's name
    center = format == "center"

    def compute(x: Array, y: Array) -> Array:
        rows = [box_arrays.overlap(box, y.reshape(-1, BOX), center=center) for box in x.reshape(-1, BOX)]
        return np.array(rows).reshape(x.shape[:-1] + y.shape[:-1])

    code = Code(f"box_iou({{0}}, {{1}}, center={center})", helpers=("box_iou",))
    return other("_contrib_box_iou", code, compute, data_inputs=2)


@operator("_contrib_box_nms", "_contrib_box_non_maximum_suppression")
def _box_nms(
    *,
    overlap_thresh: Single = HALF,
    valid_thresh: Single = ZERO,
    topk: int = -1,
    coord_start: int = 2,
    score_index: int = 1,
    id_index: int = -1,
    background_id: int = -1,
    force_suppress: bool = False,
    in_format: Format = "corner",
    out_format: Format = "corner",
) -> Operation:
    if topk == 0 or min(coord_start, score_index) < 0:
        return refuse("_contrib_box_nms", "topk is 0, or an index is negative", data_inputs=1)
    options: box_arrays.Suppression = {
        "overlap_thresh": overlap_thresh,
        "valid_thresh": valid_thresh,
        "topk": topk,
        "coord_start": coord_start,
        "score_index": score_index,
        "id_index": id_index,
        "background_id": background_id,
        "force_suppress": force_suppress,
        "in_center": in_format == "center",
        "out_center": out_format == "center",
    }

    def compute(x: Array) -> Array:
        batches = x.reshape(-1, *x.shape[-2:])
        return np.stack([box_arrays.nms(rows, options) for rows in batches]).reshape(x.shape)

    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    code = Code(f"box_nms({{0}}, {text})", helpers=("box_nms",))
    return replace(other("_contrib_box_nms", code, compute, keeps_rank=True), discrete=True)


@operator("_contrib_MultiBoxPrior", "MultiBoxPrior")
def _multibox_prior(
    *,
    sizes: Singles = (1.0,),
    ratios: Singles = (1.0,),
    clip: bool = False,
    steps: Singles = (-1.0, -1.0),
    offsets: Singles = (0.5, 0.5),
) -> Operation:
    if not sizes or not ratios or min(ratios) <= 0 or {len(steps), len(offsets)} != {PAIR}:
        return refuse("_contrib_MultiBoxPrior", "sizes, ratios, steps or offsets are invalid", data_inputs=1)

    def compute(x: Array) -> Array:
        boxes = box_arrays.priors(x.shape[2:], sizes, ratios, steps, offsets)[None]
        return (boxes.clip(0, 1) if clip else boxes).astype(x.dtype)

    text = f"sizes={sizes}, ratios={ratios}, steps={steps}, offsets={offsets}, clip={clip}"
    code = Code(f"multibox_prior({{0}}, {text})", helpers=("multibox_prior",))
    return other("_contrib_MultiBoxPrior", code, compute, rank=3, shapes_only=(0,))


@operator("_contrib_MultiBoxDetection", "MultiBoxDetection")
def _multibox_detection(
    *,
    clip: bool = True,
    threshold: Single = HUNDREDTH,
    background_id: int = 0,
    nms_threshold: Single = HALF,
    force_suppress: bool = False,
    variances: Singles = VARIANCES,
    nms_topk: int = -1,
) -> Operation:
    if background_id != 0 or len(variances) != BOX:
        return refuse(
            "_contrib_MultiBoxDetection", "background_id is not 0, or variances are not four", data_inputs=3
        )

    def compute(scores: Array, offsets: Array, anchors: Array) -> Array:
        boxes = box_arrays.decode(offsets.reshape(len(offsets), -1, BOX), anchors, variances, -1, corner=True)
        boxes = boxes.clip(0, 1) if clip else boxes
        return np.stack(
            [
                box_arrays.detection(
                    *each,
                    threshold=threshold,
                    nms_threshold=nms_threshold,
                    force_suppress=force_suppress,
                    nms_topk=nms_topk,
                )
                for each in zip(scores, boxes, strict=True)
            ]
        )

    text = (
        f"clip={clip}, threshold={threshold!r}, nms_threshold={nms_threshold!r}, "
        f"force_suppress={force_suppress}, variances={variances}, nms_topk={nms_topk}"
    )
    code = Code(f"multibox_detection({{0}}, {{1}}, {{2}}, {text})", helpers=("multibox_detection",))
    operation = other("_contrib_MultiBoxDetection", code, compute, data_inputs=3, rank=3)
    return replace(operation, discrete=True, precision="float32")
