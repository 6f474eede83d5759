"""Look up the images on which GluonCV evaluates a network: their size, crop and normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import ClassifierError
from converter.networks import families, recorded_index
from converter.vision import placement
from resnext_torch.data_config import CIFAR, IMAGENET

if TYPE_CHECKING:
    from converter.graphs.operators.code import Shape
    from converter.vision.placement import Normalization

CIFAR_DATA = "CIFAR-10"  # in ``Family.data``; GluonCV normalizes all other images as ImageNet's


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationInput:
    """The images on which GluonCV evaluates a network.

    Attributes:
        shape: the shape of the input: (1, 3, h, w) if it is one image.
        normalization: the normalization of its channels.
        crop_pct: the fraction of the resized image's short side that the crop for a classification keeps.
    """

    shape: Shape
    normalization: Normalization
    crop_pct: float


def find(network: str) -> EvaluationInput:
    """Return the input of a network of GluonCV.

    Raises:
        ClassifierError: if this version does not know the network.
    """
    entry = recorded_index.index().get(network)
    family = families.find(network)
    if entry is None or family is None:
        raise ClassifierError(
            f"{network}: the size and the normalization of its images are unknown in this version\n"
            "  try         pip install --upgrade gluon2torch"
        )
    is_cifar = CIFAR_DATA in family.data
    return EvaluationInput(
        shape=entry.input,
        normalization=placement.CIFAR_NORMALIZED if is_cifar else placement.NORMALIZED,
        crop_pct=(CIFAR if is_cifar else IMAGENET)["crop_pct"],
    )
