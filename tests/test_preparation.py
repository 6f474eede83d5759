"""Twins and the constants of an exported preprocessing are separated from a network's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.errors import DialectError, MappingError
from converter.networks import preparation

if TYPE_CHECKING:
    from converter.dtypes import Array

FILE = "holiday.params"
MEAN, SCALE = "arg:_defaultpreprocess0_init_mean", "arg:_defaultpreprocess0_init_scale"
CONSTANTS: dict[str, Array] = {
    MEAN: np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 1, 1, 3),
    SCALE: np.array([58.395, 57.12, 57.375], np.float32).reshape(1, 1, 1, 3),
}
WEIGHT: dict[str, Array] = {"arg:conv0_weight": np.ones(3, np.float32)}


def test_equal_twins_count_once() -> None:
    arrays = {
        "arg:x_running_mean": np.ones(3),
        "aux:x_running_mean": np.ones(3),
        "aux:y_running_mean": np.ones(2),
    }
    prepared = preparation.prepare(arrays, FILE)
    assert list(prepared.arrays) == ["arg:x_running_mean", "aux:y_running_mean"]
    assert prepared.twins == ("aux:x_running_mean",)


@pytest.mark.parametrize("other", [np.zeros(3), np.ones(2), np.ones(3, np.float32) + 1e-7])
def test_different_twins_are_refused(other: Array) -> None:
    arrays = {"arg:x": np.ones(3), "aux:x": other}
    with pytest.raises(
        DialectError,
        match=r"^holiday\.params: arg:x and aux:x have different values\n  try  .*save_parameters",
    ):
        preparation.prepare(arrays, FILE)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 3, 1, 1), (3,)])
def test_constants_of_gluoncv_are_those_of_imagenet(shape: tuple[int, ...]) -> None:
    constants = {name: array.reshape(shape) for name, array in CONSTANTS.items()}
    prepared = preparation.prepare(WEIGHT | constants, FILE)
    assert prepared.arrays == WEIGHT
    assert prepared.preprocessing is not None
    assert prepared.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-15)
    assert prepared.preprocessing.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-15)
    assert prepared.preprocessing.names == (MEAN, SCALE)


def test_names_of_children_are_read() -> None:
    arrays: dict[str, Array] = {
        "0.init_mean": CONSTANTS[MEAN],
        "0.init_scale": CONSTANTS[SCALE],
        "1.conv1.weight": np.ones(3),
    }
    prepared = preparation.prepare(arrays, FILE)
    assert list(prepared.arrays) == ["1.conv1.weight"]


@pytest.mark.parametrize(
    "names",
    [(MEAN,), (SCALE,), (MEAN, SCALE.replace("0", "1")), (MEAN, SCALE.replace("init_scale", "scale"))],
)
def test_constants_that_are_no_pair_are_parameters(names: tuple[str, ...]) -> None:
    arrays = {name: np.ones((1, 1, 1, 3), np.float32) for name in names}
    prepared = preparation.prepare(arrays, FILE)
    assert (prepared.arrays, prepared.preprocessing) == (arrays, None)


def test_two_pairs_are_parameters() -> None:
    arrays = CONSTANTS | {name.replace("0", "1"): array for name, array in CONSTANTS.items()}
    assert preparation.prepare(arrays, FILE).arrays == arrays


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        (MEAN, np.array([np.nan, 1, 1], np.float32), "contains NaN or infinity"),
        (SCALE, np.array([1, np.inf, 1], np.float32), "contains NaN or infinity"),
        (
            SCALE,
            np.array([1, 0, 1], np.float32),
            r"expected positive standard deviations, found \[1.0, 0.0, 1.0\]\n  try  .*",
        ),
        (MEAN, np.ones(4, np.float32), r"expected 3 floats, one per channel; found float32 of shape \(4,\)"),
        (MEAN, np.ones(3, np.int32), r"expected 3 floats, one per channel; found int32 of shape \(3,\)"),
    ],
)
def test_unusable_constant_is_refused(name: str, array: Array, reason: str) -> None:
    with pytest.raises(MappingError, match=f"^holiday\\.params: {name}: {reason}$"):
        preparation.prepare(CONSTANTS | {name: array}, FILE)
