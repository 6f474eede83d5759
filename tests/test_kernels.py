"""The numpy layers equal PyTorch's."""

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

LIMIT = 1e-13  # relative to the deviation, on standard normal input in float64; measured 7e-15
SIZES = st.tuples(st.integers(3, 23), st.integers(3, 23))


def random_array(*shape: int, seed: int = 0) -> Array:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def close(ours: Array, theirs: torch.Tensor) -> bool:
    expected = theirs.numpy()
    return ours.shape == expected.shape and bool(np.abs(ours - expected).max() <= LIMIT * expected.std())


@settings(deadline=None)
@given(
    size=SIZES,
    kernel=st.sampled_from([1, 3, 7]),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 4]),
    dilation=st.integers(1, 4),
    rows=st.sampled_from([1, 100, kernels.UNFOLDED_ELEMENTS]),
)
def test_convolution_equals_pytorchs_for_any_number_of_rows_at_a_time(
    size: tuple[int, int], kernel: int, stride: int, groups: int, dilation: int, rows: int
) -> None:
    x, weight = random_array(2, 8, *size), random_array(12, 8 // groups, kernel, kernel, seed=1)
    padding = dilation * (kernel // 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "UNFOLDED_ELEMENTS", rows)
        ours = kernels.conv(x, weight, stride=stride, padding=padding, groups=groups, dilation=dilation)
    theirs = functional.conv2d(torch.tensor(x), torch.tensor(weight), None, stride, padding, dilation, groups)
    assert close(ours, theirs)


@settings(deadline=None)
@given(size=SIZES, ceil=st.booleans())
def test_max_pools_equal_pytorchs(size: tuple[int, int], ceil: bool) -> None:
    x = random_array(2, 3, *size) - 9  # negative: padding with zeros would show
    padding = 0 if ceil else 1
    ours = kernels.max_pool(x, kernel=3, stride=2, padding=padding, ceil=ceil)
    assert close(ours, functional.max_pool2d(torch.tensor(x), 3, 2, padding, ceil_mode=ceil))


@settings(deadline=None)
@given(size=SIZES, stride=st.integers(1, 3))
def test_average_pool_equals_pytorchs_at_the_edges(size: tuple[int, int], stride: int) -> None:
    x = random_array(2, 3, *size)
    ours = kernels.average_pool(x, stride=stride)
    theirs = functional.avg_pool2d(torch.tensor(x), stride, stride, ceil_mode=True, count_include_pad=False)
    assert close(ours, theirs)


def test_pool_with_floor_rounding_differs() -> None:
    x = random_array(1, 1, 6, 6)
    ours = kernels.max_pool(x, kernel=3, stride=2, padding=0, ceil=True)
    assert not close(ours, functional.max_pool2d(torch.tensor(x), 3, 2, 0, ceil_mode=False))


def test_batch_norm_equals_pytorchs() -> None:
    x = random_array(2, 5, 3, 3)
    gamma, beta, mean = (random_array(5, seed=seed) for seed in (1, 2, 3))
    variance = random_array(5, seed=4) ** 2
    ours = kernels.batch_norm(x, gamma, beta, mean, variance, eps=1e-5)
    tensors = [torch.tensor(array) for array in (x, mean, variance, gamma, beta)]
    theirs = functional.batch_norm(*tensors, eps=1e-5)  # type: ignore[arg-type,misc]  # five tensors
    assert close(ours, theirs)
    assert not close(kernels.batch_norm(x, gamma, beta, mean, variance, eps=1.1e-5), theirs)


def test_head_and_activations_equal_pytorchs() -> None:
    x, weight, bias = random_array(2, 5), random_array(3, 5, seed=1), random_array(3, seed=2)
    assert close(kernels.dense(x, weight, bias), functional.linear(*map(torch.tensor, (x, weight, bias))))
    assert close(kernels.relu(x), torch.tensor(x).relu())
    assert close(kernels.sigmoid(x), torch.tensor(x).sigmoid())
    image = random_array(2, 5, 4, 7)
    assert close(kernels.global_mean(image), torch.tensor(image).mean((2, 3), keepdim=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_the_input_is_kept(dtype: type) -> None:
    x: Array = random_array(1, 4, 9, 9).astype(dtype)
    single = random_array(4, 4, 3, 3).astype(np.float32)
    channels = np.abs(random_array(4)).astype(np.float32)
    assert kernels.conv(x, single, stride=1, padding=1, groups=1).dtype == dtype
    assert kernels.batch_norm(x, channels, channels, channels, channels, eps=1e-5).dtype == dtype
    assert kernels.average_pool(x, stride=2).dtype == dtype
    assert kernels.max_pool(x, kernel=3, stride=2, padding=1, ceil=False).dtype == dtype
    assert kernels.dense(x[:, :, 0, 0], channels[None], channels[:1]).dtype == dtype
    assert kernels.sigmoid(x).dtype == kernels.relu(x).dtype == dtype
