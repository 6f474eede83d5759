"""The numpy layers against PyTorch's, which were written by others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from converter.references import kernels

if TYPE_CHECKING:
    from converter.dtypes import Array

LIMIT = 1e-13  # of the deviation, on standard normal input in float64; measured 7e-15
SIZES = st.tuples(st.integers(3, 23), st.integers(3, 23))


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def agree(ours: Array, theirs: torch.Tensor) -> bool:
    expected = theirs.numpy()
    return ours.shape == expected.shape and bool(np.abs(ours - expected).max() <= LIMIT * expected.std())


@settings(deadline=None)
@given(
    size=SIZES,
    kernel=st.sampled_from([1, 3, 7]),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 4]),
    rows=st.sampled_from([1, 100, kernels.UNFOLDED_ELEMENTS]),
)
def test_a_convolution_is_pytorchs_however_few_rows_are_taken_at_a_time(
    size: tuple[int, int], kernel: int, stride: int, groups: int, rows: int
) -> None:
    x, weight = draw(2, 8, *size), draw(12, 8 // groups, kernel, kernel, seed=1)
    padding = kernel // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "UNFOLDED_ELEMENTS", rows)
        ours = kernels.conv(x, weight, stride=stride, padding=padding, groups=groups)
    theirs = functional.conv2d(
        torch.tensor(x), torch.tensor(weight), stride=stride, padding=padding, groups=groups
    )
    assert agree(ours, theirs)


@settings(deadline=None)
@given(size=SIZES, ceil=st.booleans())
def test_both_max_pools_are_pytorchs(size: tuple[int, int], ceil: bool) -> None:
    x = draw(2, 3, *size) - 9  # negative: a border of zeros would show
    padding = 0 if ceil else 1
    ours = kernels.max_pool(x, kernel=3, stride=2, padding=padding, ceil=ceil)
    assert agree(ours, functional.max_pool2d(torch.tensor(x), 3, 2, padding, ceil_mode=ceil))


@settings(deadline=None)
@given(size=SIZES, stride=st.integers(1, 3))
def test_the_average_pool_is_pytorchs_at_the_edges_too(size: tuple[int, int], stride: int) -> None:
    x = draw(2, 3, *size)
    ours = kernels.average_pool(x, stride=stride)
    theirs = functional.avg_pool2d(torch.tensor(x), stride, stride, ceil_mode=True, count_include_pad=False)
    assert agree(ours, theirs)


def test_a_pool_that_rounds_down_is_another() -> None:
    x = draw(1, 1, 6, 6)
    ours = kernels.max_pool(x, kernel=3, stride=2, padding=0, ceil=True)
    assert not agree(ours, functional.max_pool2d(torch.tensor(x), 3, 2, 0, ceil_mode=False))


def test_batch_norm_is_pytorchs() -> None:
    x = draw(2, 5, 3, 3)
    gamma, beta, mean = (draw(5, seed=seed) for seed in (1, 2, 3))
    variance = draw(5, seed=4) ** 2
    ours = kernels.batch_norm(x, gamma, beta, mean, variance, eps=1e-5)
    tensors = [torch.tensor(array) for array in (x, mean, variance, gamma, beta)]
    theirs = functional.batch_norm(*tensors, eps=1e-5)  # type: ignore[arg-type,misc]  # five tensors
    assert agree(ours, theirs)
    assert not agree(kernels.batch_norm(x, gamma, beta, mean, variance, eps=1.1e-5), theirs)


def test_the_head_and_the_activations_are_pytorchs() -> None:
    x, weight, bias = draw(2, 5), draw(3, 5, seed=1), draw(3, seed=2)
    assert agree(kernels.dense(x, weight, bias), functional.linear(*map(torch.tensor, (x, weight, bias))))
    assert agree(kernels.relu(x), torch.tensor(x).relu())
    assert agree(kernels.sigmoid(x), torch.tensor(x).sigmoid())
    image = draw(2, 5, 4, 7)
    assert agree(kernels.global_mean(image), torch.tensor(image).mean((2, 3), keepdim=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_stays_in_the_type_of_the_input(dtype: type) -> None:
    x: Array = draw(1, 4, 9, 9).astype(dtype)
    single = draw(4, 4, 3, 3).astype(np.float32)
    channels = np.abs(draw(4)).astype(np.float32)
    assert kernels.conv(x, single, stride=1, padding=1, groups=1).dtype == dtype
    assert kernels.batch_norm(x, channels, channels, channels, channels, eps=1e-5).dtype == dtype
    assert kernels.average_pool(x, stride=2).dtype == dtype
    assert kernels.max_pool(x, kernel=3, stride=2, padding=1, ceil=False).dtype == dtype
    assert kernels.dense(x[:, :, 0, 0], channels[None], channels[:1]).dtype == dtype
    assert kernels.sigmoid(x).dtype == kernels.relu(x).dtype == dtype
