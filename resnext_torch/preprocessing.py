"""Convert images to network inputs, as timm does (bicubic) or as GluonCV did.

Needs Pillow, and torchvision for timm's or OpenCV for GluonCV's preprocessing; imported on first use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import augmentation
from .config import COLOURS
from .data_config import IMAGENET, resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from .config import Config
    from .features import Features
    from .resnext import ResNeXt

    Transform = Callable[[Any], Tensor]


def create_transform(  # noqa: PLR0913 - timm's arguments, by keyword
    recipe: Literal["bicubic", "gluon"] = "bicubic",
    *,
    input_size: int | tuple[int, int] | tuple[int, int, int] = IMAGENET["input_size"],
    interpolation: str = IMAGENET["interpolation"],
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    mean: tuple[float, ...] = IMAGENET["mean"],
    std: tuple[float, ...] = IMAGENET["std"],
    is_training: bool = False,
    no_aug: bool = False,
    **augmentations: Any,  # noqa: ANN401 - timm's further arguments
) -> Transform:
    """Return the transform from an RGB image to a network's input.

    Call it as ``create_transform(**resolve_data_config(model))``. The recipe "bicubic" is the
    ``torchvision.transforms.Compose`` of timm's evaluation or, with ``is_training``, of its training; the
    recipe "gluon" is ``GluonTransform``, which ignores ``interpolation``.

    Args:
        recipe: "bicubic" or "gluon".
        input_size: (channels, h, w), (h, w), or a number of pixels for both.
        interpolation: "bicubic", "bilinear", "nearest" and the like.
        crop_pct: the fraction of the resized image's short side that the crop keeps, by default 0.875.
        crop_mode: "center", the only supported mode.
        mean: means of the channels, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
        is_training: whether to return the transform for training, with random crops.
        no_aug: whether to only resize in training.
        augmentations: settings of the training, those of ``augmentation.Augmentation``.

    Raises:
        ValueError: if an argument has a value that the transforms do not support.
        ImportError: if torchvision is needed and not installed.
    """
    size = _size(input_size)
    if recipe not in {"bicubic", "gluon"}:
        raise ValueError(f"recipe: expected 'bicubic' or 'gluon', found {recipe!r}")
    if is_training:
        if recipe == "gluon":
            raise ValueError("recipe: 'gluon' is for evaluation; use 'bicubic' with is_training")
        settings = None if no_aug else augmentation.settings(augmentations)
        return augmentation.training_transform(size, interpolation, mean, std, settings)
    height, width = size
    if height != width:
        raise ValueError(f"input_size: expected ({COLOURS}, n, n), found {input_size}")
    if crop_mode not in {None, "center"}:
        raise ValueError(f"crop_mode: expected 'center', found {crop_mode!r}")
    resized = math.floor(height / (crop_pct or IMAGENET["crop_pct"]))
    if recipe == "gluon":
        return GluonTransform(resized, height, mean, std)
    from torchvision import transforms  # noqa: PLC0415 - not needed for GluonCV's

    return transforms.Compose(  # type: ignore[no-any-return]  # torchvision has no types
        [
            transforms.Resize(resized, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(height),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def _size(input_size: int | tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width of the input, which must have three channels."""
    if isinstance(input_size, int):
        return input_size, input_size
    *channels, height, width = input_size
    if channels not in ([], [COLOURS]):
        raise ValueError(f"input_size: expected ({COLOURS}, n, n), found {input_size}")
    return height, width


def gluon_transform(model: str | Config | ResNeXt | Features | None = None) -> GluonTransform:
    """Return GluonCV's transform for a network.

    Args:
        model: a network, its name or configuration; None for the ImageNet networks.

    Raises:
        KeyError: if a name is not in ``list_models()``.
    """
    config = resolve_data_config(model)
    size = config["input_size"][1]
    return GluonTransform(math.floor(size / config["crop_pct"]), size, config["mean"], config["std"])


@dataclass(frozen=True, slots=True)
class GluonTransform:
    """Resize the short side to ``resized`` pixels, crop ``size`` pixels from the centre, normalise.

    OpenCV's bilinear interpolation of bytes does not antialias when it shrinks an image; Pillow's does.

    Source: gluoncv/data/transforms/presets/imagenet.py, ``transform_eval``, dmlc/gluon-cv 56777561.
    """

    resized: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image | np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """Convert an RGB image to an input in float32.

        Shape:
            (h, w, 3) in uint8 → (3, size, size)

        Raises:
            ValueError: if the image is not RGB with 8 bits per channel.
            ImportError: if OpenCV is not installed.
        """
        import cv2  # noqa: PLC0415 - not needed for timm's
        import numpy as np  # noqa: PLC0415 - as above
        import torch  # noqa: PLC0415 - takes more than a second

        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != COLOURS:  # noqa: PLR2004 - (h, w, c)
            raise ValueError(
                f"expected an RGB image, (h, w, {COLOURS}) in uint8; found {pixels.shape} in {pixels.dtype}"
            )
        height, width, _ = pixels.shape
        short = min(height, width)
        height, width = self.resized * height // short, self.resized * width // short
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        cropped = pixels[top : top + self.size, left : left + self.size]
        scaled = cropped.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return torch.from_numpy((scaled - mean) / std)
