"""What a user chooses between, and what is taken where nothing is chosen.

Commands are declared with these: nothing is imported here, so that `--help` comes at once.
"""

from __future__ import annotations

from enum import StrEnum

LICENSE = "apache-2.0"  # of published weights: GluonCV's
TOP = 5  # so many classes are shown of an image


class ReferenceChoice(StrEnum):
    """What a network is compared with; ``auto`` is GluonCV where it can run, and numpy elsewhere."""

    auto = "auto"
    gluon = "gluon"
    numpy = "numpy"
    none = "none"


class Precision(StrEnum):
    """Of the weights; ``keep`` leaves each as it is in the source."""

    keep = "keep"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Preprocessing(StrEnum):
    """How an image becomes an input: timm's way, or GluonCV's own."""

    bicubic = "bicubic"
    gluon = "gluon"


class Device(StrEnum):
    """Where the network runs; ``auto``: on a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
