"""Convert images to the inputs of detectors and segmentation networks as GluonCV does, and results back.

Each function resizes an RGB image to a fixed size, and returns how its coordinates changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnext_torch.data_config import CIFAR, IMAGENET

if TYPE_CHECKING:
    from torch import Tensor

    from converter.dtypes import Array

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """The normalization of the channels, on a scale from 0 to 1.

    Attributes:
        mean: their means.
        std: their standard deviations.
        description: the values of the input, in words.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    description: str


# Source: gluoncv/data/transforms/presets/{ssd,yolo,center_net,segmentation}.py, dmlc/gluon-cv 56777561.
NORMALIZED = Normalization(mean=IMAGENET["mean"], std=IMAGENET["std"], description="normalized as ImageNet")
CIFAR_NORMALIZED = Normalization(mean=CIFAR["mean"], std=CIFAR["std"], description="normalized as CIFAR-10")
# Of a graph that normalizes: it takes values from 0 to 255.
PIXELS = Normalization(
    mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), description="values from 0 to 255"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an image is in an input: a pixel (x, y) is at (x · scale + left, y · scale + top) there.

    Attributes:
        size: height and width of the image.
        scale: the factors of x and y.
        left: the column of the input in which the image begins.
        top: the row likewise.
    """

    size: Size
    scale: tuple[float, float]
    left: float = 0.0
    top: float = 0.0

    def box(self, corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return a box of the input, in pixels of the image and clipped to it.

        Args:
            corners: left, top, right and bottom.
        """
        x, y = self.scale
        height, width = self.size
        left, right = (min(max((each - self.left) / x, 0.0), float(width)) for each in corners[::2])
        top, bottom = (min(max((each - self.top) / y, 0.0), float(height)) for each in corners[1::2])
        return left, top, right, bottom


def stretch(image: Array, size: Size) -> tuple[Array, Placement]:
    """Resize an image without keeping its proportions.

    Source: ``SSDDefaultValTransform`` and ``YOLO3DefaultValTransform``, whose ``interp=9`` is the choice of
    ``_get_interp_method`` in python/mxnet/image/image.py, apache/mxnet 1.9.1.

    Shape:
        image: (h, w, 3)
    """
    import cv2  # noqa: PLC0415 - optional

    height, width = image.shape[:2]
    if size[0] > height and size[1] > width:
        method = cv2.INTER_CUBIC
    elif size[0] < height and size[1] < width:
        method = cv2.INTER_AREA
    else:
        method = cv2.INTER_LINEAR
    resized: Array = cv2.resize(image, size[::-1], interpolation=method)
    return resized, Placement(size=(height, width), scale=(size[1] / width, size[0] / height))


def centre(image: Array, size: Size) -> tuple[Array, Placement]:
    """Resize the long side of an image to the width of the input, and surround it with black.

    Source: ``CenterNetDefaultValTransform``.

    Shape:
        image: (h, w, 3)
    """
    import cv2  # noqa: PLC0415 - optional

    height, width = image.shape[:2]
    scale = size[1] / max(height, width)
    left, top = (size[1] - scale * width) / 2, (size[0] - scale * height) / 2
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    warped: Array = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
    return warped, Placement(size=(height, width), scale=(scale, scale), left=left, top=top)


def to_input(image: Array, normalization: Normalization) -> Tensor:
    """Return an image as an input.

    Shape:
        (h, w, 3) in uint8 → (1, 3, h, w)
    """
    import torch  # noqa: PLC0415 - takes more than a second

    scaled = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean, std = np.array([normalization.mean, normalization.std], np.float32)[:, :, None, None]
    return torch.from_numpy((scaled - mean) / std)[None]


def fit(image: Array, size: Size, normalization: Normalization) -> tuple[Tensor, Placement]:
    """Resize an image as a whole to the top left of the input; the rest is black.

    Source: ``MultiEvalModel`` in gluoncv/model_zoo/segbase.py with one scale, dmlc/gluon-cv 56777561.

    Shape:
        (h, w, 3) in uint8 → (1, 3, *size)
    """
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = min(size[0], int(height * scale + 0.5)), min(size[1], int(width * scale + 0.5))
    black = to_input(np.zeros((1, 1, 3), np.uint8), normalization)
    padded = black.repeat(1, 1, *size)
    padded[..., : inner[0], : inner[1]] = resize(to_input(image, normalization), inner)
    return padded, Placement(size=(height, width), scale=(inner[1] / width, inner[0] / height))


def resize(values: Tensor, size: Size) -> Tensor:
    """Resize values as MXNet's ``BilinearResize2D`` does.

    Shape:
        (1, channels, h, w) → (1, channels, *size)
    """
    from torch.nn import functional  # noqa: PLC0415 - as above

    return functional.interpolate(values, size, mode="bilinear", align_corners=True)
