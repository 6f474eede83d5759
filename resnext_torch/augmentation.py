"""The transform for training, with timm's arguments and defaults; needs torchvision."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """The random changes of an image in training, under timm's names.

    Attributes:
        scale: the smallest and largest area of the crop, as a fraction of the image's.
        ratio: the smallest and largest ratio of the crop's width to its height.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        color_jitter: the strength of changes of brightness, contrast and saturation, or three or four
            strengths, the last of the hue; None for none.
        re_prob: probability that a random rectangle is erased.
    """

    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] | None = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float | Sequence[float] | None = 0.4
    re_prob: float = 0.0


DEFAULT = Augmentation()


def settings(arguments: Mapping[str, Any]) -> Augmentation:
    """Return the augmentation of timm's arguments.

    Raises:
        ValueError: if an argument selects an augmentation that only timm has.
    """
    known = {field.name for field in fields(Augmentation)}
    if others := sorted(name for name, value in arguments.items() if value and name not in known):
        raise ValueError(
            f"{', '.join(others)}: not supported; timm.data.create_transform() takes the same configuration"
        )
    return Augmentation(**{name: value for name, value in arguments.items() if name in known})


def training_transform(
    size: tuple[int, int],
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    augmentation: Augmentation | None,
) -> Callable[[Any], Any]:
    """Return the transform of timm's training: a random crop, flips, colours, normalization, erasing.

    Args:
        size: height and width of the input.
        interpolation: as in torchvision's ``InterpolationMode``.
        mean: means of the channels.
        std: standard deviations of the channels.
        augmentation: the random changes; None for a resized image.

    Raises:
        ValueError: if there is no such interpolation.
        ImportError: if torchvision is not installed.
    """
    from torchvision import transforms  # noqa: PLC0415 - an extra

    mode = transforms.InterpolationMode(interpolation)
    normalize = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    if augmentation is None:
        return transforms.Compose([transforms.Resize(size, mode), *normalize])  # type: ignore[no-any-return]
    scale, ratio = augmentation.scale or DEFAULT.scale, augmentation.ratio or DEFAULT.ratio
    steps = [transforms.RandomResizedCrop(size, scale, ratio, mode)]
    if augmentation.hflip:
        steps.append(transforms.RandomHorizontalFlip(augmentation.hflip))
    if augmentation.vflip:
        steps.append(transforms.RandomVerticalFlip(augmentation.vflip))
    if augmentation.color_jitter:
        steps.append(transforms.ColorJitter(*_strengths(augmentation.color_jitter)))
    steps += normalize
    if augmentation.re_prob:
        steps.append(transforms.RandomErasing(augmentation.re_prob))
    return transforms.Compose(steps)  # type: ignore[no-any-return]  # torchvision has no types


def _strengths(color_jitter: float | Sequence[float]) -> Sequence[float]:
    return (color_jitter,) * 3 if isinstance(color_jitter, int | float) else color_jitter
