"""The options of the commands, and their defaults.

The commands are declared with these enums; this module imports only the standard library, so that
``--help`` starts fast.
"""

from __future__ import annotations

from enum import StrEnum

LICENSE = "apache-2.0"  # of GluonCV's weights, and so of published conversions
TOP = 5  # classes shown per image
SCORE = 0.5  # the least of a detected object; the default of GluonCV's plot_bbox, gluoncv/utils/viz/bbox.py


class ReferenceChoice(StrEnum):
    """What a network is compared with; ``auto`` is GluonCV if it can run, else numpy."""

    auto = "auto"
    gluon = "gluon"
    numpy = "numpy"
    none = "none"


class Precision(StrEnum):
    """Type of the written weights; ``keep`` keeps each tensor's dtype."""

    keep = "keep"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class ExportFormat(StrEnum):
    """A file that contains the network and its weights, for programs without our code."""

    onnx = "onnx"
    pt2 = "pt2"


class Preprocessing(StrEnum):
    """How an image becomes an input: as in timm, or as in GluonCV."""

    bicubic = "bicubic"
    gluon = "gluon"


class Device(StrEnum):
    """Device that runs the network; ``auto`` is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Backend(StrEnum):
    """Library that runs the network."""

    torch = "torch"
    onnxruntime = "onnxruntime"


class Task(StrEnum):
    """What the models of a family are for, in the order of GluonCV's model zoo."""

    classification = "classification"
    segmentation = "segmentation"
    instance_segmentation = "instance-segmentation"
    detection = "detection"
    pose = "pose"
    action = "action"
    tracking = "tracking"
    depth = "depth"


class PredictionTask(StrEnum):
    """What a network computes from an image."""

    classification = "classification"
    detection = "detection"
    segmentation = "segmentation"


class Dataset(StrEnum):
    """A data set whose class names are known."""

    voc = "voc"
    coco = "coco"
    ade20k = "ade20k"
    citys = "citys"
    imagenet = "imagenet"
