"""The parts of a manifest that only the file of a trained network has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from converter.manifests.hashes import Sha1, Sha256  # noqa: TC001 - evaluated
from converter.manifests.source_records import PreprocessingRecord  # noqa: TC001 - evaluated

MAX_SIZE = 2048  # of an image, in pixels
Percent = Annotated[float, Meta(ge=0, le=100)]


class BaseRecord(Struct, frozen=True, kw_only=True):
    """The weights that a training run began with, and what their own manifest said about them.

    Attributes:
        model: name of their model.
        file: their file name.
        sha256: SHA-256 of the file.
        source_sha1: SHA-1 of the ``.params`` file that they were converted from, null if unknown.
        official: whether that is GluonCV's published file, and the weights were not rounded.
        proven: whether their conversion was proven.
        random: whether they are seeded random numbers.
        trained: whether they were trained further after their conversion.
    """

    model: str
    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\Z")]
    sha256: Sha256
    source_sha1: Sha1 | None
    official: bool
    proven: bool
    random: bool
    trained: bool


class MetricsRecord(Struct, frozen=True, kw_only=True):
    """What the training run measured on its own validation images, in the epoch of these weights.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean cross-entropy.
        top1: accuracy in percent.
        top5: accuracy of the first five classes in percent.
        images: number of images.
    """

    epoch: Annotated[int, Meta(ge=1)]
    loss: Annotated[float, Meta(ge=0)]
    top1: Percent
    top5: Percent
    images: Annotated[int, Meta(ge=1)]


class TrainingRecord(Struct, frozen=True, kw_only=True):
    """How the weights were trained.

    Attributes:
        base: the weights that the training run began with, null if it began from scratch.
        classes: number of classes.
        metrics: what was measured on the validation images.
        versions: versions of the packages that trained.
        preprocessing: the normalization of images, if it is not the model's default; absent otherwise.
        size: height and width of the images in pixels, if not the model's default; absent otherwise.
    """

    base: BaseRecord | None
    classes: Annotated[int, Meta(ge=1)]
    metrics: MetricsRecord
    versions: dict[str, str]
    preprocessing: PreprocessingRecord | None = None
    size: Annotated[int, Meta(ge=1, le=MAX_SIZE)] | None = None
