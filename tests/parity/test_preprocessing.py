"""Our image preprocessing equals GluonCV's, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mxnet_forks
import numpy as np
import pytest
import torch

from resnext_torch import gluon_transform

WRITER = Path(__file__).with_name("gluon_inputs.py")
# (height, width): either side shorter, the limits, smaller than the crop, odd margins, thin
SIZES = [
    *((300, 400), (400, 300), (256, 256), (255, 256), (257, 256), (224, 300), (100, 80)),
    *((333, 517), (1000, 257), (256, 900), (31, 640), (1, 1)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images, each with GluonCV's preprocessed input."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        np.save(folder / f"{height}x{width}.npy", pixels)
    mxnet_forks.run(WRITER, folder)
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_gluon_transform_equals_gluoncv_bit_for_bit(folder: Path, size: tuple[int, int]) -> None:
    name = "{}x{}".format(*size)
    pixels = np.load(folder / f"{name}.npy")
    with np.load(folder / f"{name}.npz") as file:
        expected = torch.from_numpy(file["input"])
    assert torch.equal(gluon_transform()(pixels), expected)
    larger = replace(gluon_transform(), resized=257)
    assert size == (1, 1) or not torch.equal(larger(pixels), expected)
