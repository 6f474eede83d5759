"""The JSON documents of predictions by the network of a converted graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from converter.choices import PredictionTask
from converter.exports import onnx_network
from converter.formats.state_dicts import Location  # noqa: TC001 - evaluated
from converter.vision import prediction
from converter.vision.prediction import ImageRecord, PredictionRecord

if TYPE_CHECKING:
    from converter.vision.graph_prediction import GraphPredictionRequest, GraphPredictions, ImageResult

GLUON = "gluon"  # the preprocessing of detectors and segmentation networks


class ObjectRecord(Struct, frozen=True, kw_only=True, rename={"index": "class"}):
    """An object in an image.

    Attributes:
        index: its class.
        label: name of its class.
        score: its score, from 0 to 1.
        box: left, top, right and bottom, in pixels of the image.
    """

    index: int
    label: str
    score: float
    box: tuple[float, float, float, float]


class DetectedRecord(Struct, frozen=True, kw_only=True):
    """An image and its objects.

    Attributes:
        file: the image.
        size: its height and width.
        objects: the objects, in descending order of their scores.
        drawing: file of the drawing, null without one.
    """

    file: str
    size: tuple[int, int]
    objects: tuple[ObjectRecord, ...]
    drawing: str | None


class ShareRecord(Struct, frozen=True, kw_only=True, rename={"index": "class"}):
    """A class, and the share of the pixels of an image that belong to it, from 0 to 1."""

    index: int
    label: str
    share: float


class SegmentedRecord(Struct, frozen=True, kw_only=True):
    """An image and the classes of its pixels.

    Attributes:
        file: the image.
        size: its height and width.
        classes: the classes, in descending order of their shares.
        drawing: file of the drawing, null without one.
    """

    file: str
    size: tuple[int, int]
    classes: tuple[ShareRecord, ...]
    drawing: str | None


class DetectionRecord(Struct, frozen=True, kw_only=True, tag_field="task", tag="detection"):
    """The document of ``gluon2torch predict`` for a network that finds objects.

    Attributes:
        model: name of the module.
        weights: file of the weights.
        preprocessing: how an image becomes an input.
        state_dict: where the weights are in their file.
        backend: library that ran the network.
        device: its device.
        warning: why the result may mean little, null without a reason.
        images: the images.
        input: shape of the input.
        class_names: where the class names come from.
    """

    model: str
    weights: str
    preprocessing: str
    state_dict: Location
    backend: str
    device: str
    warning: str | None
    images: tuple[DetectedRecord, ...]
    input: tuple[int, ...]
    class_names: str


class SegmentationRecord(Struct, frozen=True, kw_only=True, tag_field="task", tag="segmentation"):
    """The document of ``gluon2torch predict`` for a network that segments images.

    Attributes:
        model: name of the module.
        weights: file of the weights.
        preprocessing: how an image becomes an input.
        state_dict: where the weights are in their file.
        backend: library that ran the network.
        device: its device.
        warning: why the result may mean little, null without a reason.
        images: the images.
        input: shape of the input.
        class_names: where the class names come from.
    """

    model: str
    weights: str
    preprocessing: str
    state_dict: Location
    backend: str
    device: str
    warning: str | None
    images: tuple[SegmentedRecord, ...]
    input: tuple[int, ...]
    class_names: str


def document(
    predictions: GraphPredictions, request: GraphPredictionRequest
) -> PredictionRecord | DetectionRecord | SegmentationRecord:
    """Return the JSON document of predictions."""
    network = predictions.network
    common: dict[str, Any] = {
        "model": network.weights.manifest.model,
        "weights": str(network.file),
        "state_dict": network.weights.location,
        "backend": onnx_network.backend(network.module).value,
        "device": network.device,
        "warning": predictions.warning or None,
        "input": network.shape,
        "class_names": predictions.classes.origin,
    }
    if network.task is PredictionTask.detection:
        found = tuple(map(_detected, predictions.images))
        return DetectionRecord(**common, preprocessing=GLUON, images=found)
    if network.task is PredictionTask.segmentation:
        segmented = tuple(map(_segmented, predictions.images))
        return SegmentationRecord(**common, preprocessing=GLUON, images=segmented)
    classified = tuple(
        ImageRecord(file=str(image.file), top=prediction.class_records(image.classes))
        for image in predictions.images
    )
    return PredictionRecord(**common, preprocessing=request.preprocessing.value, images=classified)


def _detected(image: ImageResult) -> DetectedRecord:
    return DetectedRecord(
        file=str(image.file),
        size=image.size,
        objects=tuple(
            ObjectRecord(index=each.index, label=each.label, score=each.score, box=each.box)
            for each in image.objects
        ),
        drawing=str(image.drawing) if image.drawing else None,
    )


def _segmented(image: ImageResult) -> SegmentedRecord:
    return SegmentedRecord(
        file=str(image.file),
        size=image.size,
        classes=tuple(
            ShareRecord(index=each.index, label=each.label, share=each.share) for each in image.shares
        ),
        drawing=str(image.drawing) if image.drawing else None,
    )
