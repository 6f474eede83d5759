"""Data sets of the images in DATA/train/CLASS/ and DATA/val/CLASS/, with reproducible augmentation.

The images of an epoch depend only on the seed and the epoch's number, not on the processes and workers
that load them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from resnext_torch import create_transform, resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resnext_torch import ResNeXt
    from resnext_torch.preprocessing import Transform


def augmented(model: str | ResNeXt | None, size: int, *, jitter: float = 0.0) -> v2.Compose:
    """Return the training transform: a random crop and flip, and colour jitter of up to ``jitter``.

    Args:
        model: a network, whose recorded normalization is used, or its name; None for ImageNet's.
        size: the height and width of an image.
        jitter: the largest change of brightness, contrast and saturation.
    """
    data_config = resolve_data_config(model)
    colours = [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
    normalisation = [
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(data_config["mean"], data_config["std"]),
    ]
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *colours, *normalisation])


def centred(model: str | ResNeXt | None, size: int) -> Transform:
    """Return the validation transform, the same as in `gluon2torch predict` and `evaluate`.

    The arguments are those of ``augmented``.
    """
    data_config = resolve_data_config(model)
    data_config["input_size"] = (3, size, size)
    return create_transform(**data_config)


def read(
    data: Path, transform: v2.Compose, unchanged: Transform, batch: int
) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and the validation images.

    Raises:
        SystemExit: if there are none, if their classes differ or have unsuitable names, or if there are fewer
            training images than a batch has.
    """
    train_set, val_set = _folder(data / "train", transform), _folder(data / "val", unchanged)
    if mismatches := set(train_set.classes) ^ set(val_set.classes):
        raise SystemExit(f"{data}: classes not in both train/ and val/: {', '.join(sorted(mismatches))}")
    if names := [name for name in train_set.classes if not name.isprintable() or name != name.strip()]:
        raise SystemExit(f"{data}/train: {names[0]!a} cannot be the name of a class")
    if len(train_set) < batch:
        raise SystemExit(
            f"{data}/train: expected at least {batch} images for one batch, found {len(train_set)}"
        )
    return train_set, val_set


def _folder(folder: Path, transform: v2.Compose | Transform) -> ImageFolder:
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder; DATA needs train/CLASS/ and val/CLASS/ with images")
    try:
        return ImageFolder(folder, transform)
    except FileNotFoundError as error:  # no classes, or classes without images
        raise SystemExit(f"{folder}: {error}") from error


@dataclass
class Shuffled(Sampler[tuple[int, int]]):
    """The order of an epoch: yields the index of each image and a seed for its augmentation."""

    count: int
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)))
        for index in torch.randperm(self.count, generator=generator).tolist():
            yield index, hash((self.seed, self.epoch, index))


@dataclass
class Seeded(Dataset[tuple[Tensor, int]]):
    """Images by index and seed; the seed determines the augmentation."""

    images: ImageFolder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            image, label = self.images[index]
        return image, label
