"""Convert images to network inputs, as timm does (bicubic) or as GluonCV did.

Needs Pillow, and torchvision for timm's or OpenCV for GluonCV's preprocessing; imported on first use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from . import weight_files
from .config import COLOURS, CONFIGS, Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from typing import Any

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from .features import Features
    from .resnext import ResNeXt
    from .weight_files import RecordedNormalization

    Transform = Callable[[Any], Tensor]


class DataConfig(TypedDict):
    """The input that a network expects, under timm's keys.

    Attributes:
        input_size: (channels, h, w) in pixels.
        crop_pct: the fraction of the resized image's short side that the crop keeps.
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
    """

    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = DataConfig(
    input_size=(COLOURS, 224, 224),
    interpolation="bicubic",
    crop_pct=0.875,
    crop_mode="center",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# Source: scripts/classification/cifar/train_cifar10.py, dmlc/gluon-cv 56777561.
CIFAR = DataConfig(
    input_size=(COLOURS, 32, 32),
    interpolation="bicubic",
    crop_pct=1.0,
    crop_mode="center",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)


def resolve_data_config(
    model: str | Config | ResNeXt | Features | None = None, weights: str | PathLike[str] | None = None
) -> DataConfig:
    """Return the input that a network expects.

    Args:
        model: a network, its name or configuration; None for the ImageNet networks.
        weights: file of the weights. If its manifest records a normalization that was exported with the
            network, that takes the place of the default.

    Raises:
        KeyError: if a name is not in ``list_models()``.
    """
    own: RecordedNormalization = {} if weights is None else weight_files.normalization(Path(weights))
    if model is None:
        return DataConfig(**{**IMAGENET, **own})
    config = _config(model)
    defaults = CIFAR if config.stem == "small" else IMAGENET
    _, height, width = defaults["input_size"]
    return DataConfig(**{**defaults, "input_size": (config.in_chans, height, width), **own})


def create_transform(  # noqa: PLR0913 - timm's arguments, by keyword
    recipe: Literal["bicubic", "gluon"] = "bicubic",
    *,
    input_size: tuple[int, int, int] = IMAGENET["input_size"],
    interpolation: str = IMAGENET["interpolation"],
    crop_pct: float = IMAGENET["crop_pct"],
    crop_mode: str = IMAGENET["crop_mode"],
    mean: tuple[float, ...] = IMAGENET["mean"],
    std: tuple[float, ...] = IMAGENET["std"],
) -> Transform:
    """Return the transform from an RGB image to a network's input.

    Call it as ``create_transform(**resolve_data_config(model))``. The recipe "bicubic" is the
    ``torchvision.transforms.Compose`` of timm's evaluation; the recipe "gluon" is ``GluonTransform``,
    which ignores ``interpolation``.

    Raises:
        ValueError: if an argument has a value that the transforms do not support.
        ImportError: if torchvision is needed and not installed.
    """
    channels, height, width = input_size
    if channels != COLOURS or height != width:
        raise ValueError(f"input_size: expected ({COLOURS}, n, n), found {input_size}")
    if crop_mode != "center":
        raise ValueError(f"crop_mode: expected 'center', found {crop_mode!r}")
    resized = math.floor(height / crop_pct)
    if recipe == "gluon":
        return GluonTransform(resized, height, mean, std)
    if recipe != "bicubic":
        raise ValueError(f"recipe: expected 'bicubic' or 'gluon', found {recipe!r}")
    from torchvision import transforms  # noqa: PLC0415 - not needed for GluonCV's

    return transforms.Compose(  # type: ignore[no-any-return]  # torchvision has no types
        [
            transforms.Resize(resized, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(height),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


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


def _config(model: str | Config | ResNeXt | Features) -> Config:
    if isinstance(model, str):
        return CONFIGS[model]
    if isinstance(model, Config):
        return model
    network: Any = model
    config: Config = getattr(network, "model", network).config  # Features has the network in `model`
    return config
