"""Images in DATA/train/CLASS/ and DATA/val/CLASS/, augmented in the same way whoever loads them.

What an epoch sees depends on the seed and its number alone, not on the processes and workers that load it.
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

    from resnext_torch.preprocessing import Transform


def augmented(model: str, size: int, *, jitter: float = 0.0) -> v2.Compose:
    """Return the training transform: a random crop and flip, and colours changed by up to ``jitter``."""
    seen = resolve_data_config(model)
    colours = [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
    normalised = [
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(seen["mean"], seen["std"]),
    ]
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *colours, *normalised])


def centred(model: str, size: int) -> Transform:
    """Return the validation transform, which `gluon2torch predict` and `evaluate` use too."""
    seen = resolve_data_config(model)
    seen["input_size"] = (3, size, size)
    return create_transform(**seen)


def read(
    data: Path, transform: v2.Compose, unchanged: Transform, batch: int
) -> tuple[ImageFolder, ImageFolder]:
    """Return the images to train on and those to validate with.

    Errors: ``SystemExit`` where their classes differ, or where there is not one batch.
    """
    seen, unseen = ImageFolder(data / "train", transform), ImageFolder(data / "val", unchanged)
    if apart := set(seen.classes) ^ set(unseen.classes):
        raise SystemExit(f"{data}: not in both of train/ and val/: {', '.join(sorted(apart))}")
    if len(seen) < batch:
        raise SystemExit(f"{data}/train: {len(seen)} images, fewer than a batch of {batch}")
    return seen, unseen


@dataclass
class Shuffled(Sampler[tuple[int, int]]):
    """An epoch's order: of each image its index, and a seed for its augmentation."""

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
    """Images by index and seed, augmented as the seed says."""

    images: ImageFolder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            image, label = self.images[index]
        return image, label
