"""Differences are relative to the deviation of an output; that of a constant is its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.parity import graph_rows
from converter.parity.comparison import statistics_of

if TYPE_CHECKING:
    from converter.dtypes import Array

NOISE = np.random.Generator(np.random.PCG64(3)).integers(-1, 2, 500)
EPS = {dtype: float(np.finfo(dtype).eps) for dtype in ("float64", "float32")}


@pytest.mark.parametrize("dtype", EPS)
def test_roundings_of_a_constant_pass(dtype: str) -> None:
    """Such as the sums of a softmax."""
    ones = (1 + NOISE * EPS[dtype]).astype(dtype)
    others = (1 - NOISE * EPS[dtype]).astype(dtype)
    assert ones.std() > 0
    found = graph_rows.difference(ones, others)
    assert found.relative == pytest.approx(2 * EPS[dtype])


@pytest.mark.parametrize("noise", [0, NOISE * EPS["float64"]], ids=["constant", "rounded"])
@pytest.mark.parametrize("value", [1.0, 1e-3, 1e8])
def test_another_constant_fails(value: float, noise: Array | int) -> None:
    constant = value * (1 + noise * np.ones(500))
    found = graph_rows.difference(constant, constant + 1e-9 * value)
    assert found.relative == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("dtype", EPS)
def test_deviation_of_more_than_roundings_is_the_scale(dtype: str) -> None:
    output = (1 + NOISE * EPS[dtype] * 1000).astype(dtype)
    moved = output.copy()
    moved[0] += 8 * EPS[dtype]
    found = graph_rows.difference(output, moved)
    assert found.relative == pytest.approx(found.max_abs / output.astype(np.float64).std())
    assert found.relative > 8e-3


def test_integers_are_relative_to_their_deviation() -> None:
    assert graph_rows.difference(np.arange(5), np.arange(5) + 1).relative == pytest.approx(2**-0.5)


@pytest.mark.parametrize("huge", [np.inf, -np.inf, -1e30, -np.finfo("float64").max, np.nan])
def test_huge_values_do_not_hide_other_differences(huge: float) -> None:
    reference = np.random.Generator(np.random.PCG64(5)).normal(0, 1, 50)
    reference[7] = huge
    assert graph_rows.difference(reference, reference.copy()).relative == 0
    moved = reference.copy()
    moved[3] += 1e-9
    others = np.delete(reference, 7)
    assert graph_rows.difference(reference, moved).relative == pytest.approx(1e-9 / others.std(), rel=1e-6)


@pytest.mark.parametrize("huge", [np.inf, -np.inf, -1e30, -np.finfo("float64").max, np.nan])
@pytest.mark.parametrize("other", [0.5, np.inf, -np.inf, np.nan, -2e30, np.finfo("float64").max])
def test_other_huge_values_differ(huge: float, other: float) -> None:
    reference = np.array([0.5, huge, 2])
    output = np.array([0.5, other, 2])
    if np.array_equal(reference, output, equal_nan=True):
        assert graph_rows.difference(reference, output).relative == 0
    else:
        assert graph_rows.difference(reference, output).relative >= 0.5
        assert graph_rows.difference(output, reference).relative >= 0.5


def test_roundings_of_huge_values_pass() -> None:
    reference = np.array([0.5, -1e30, 2])
    output = np.array([0.5, -1e30 * (1 + 2e-16), 2])
    assert 0 < graph_rows.difference(reference, output).relative < 1e-15


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
@pytest.mark.parametrize("shape", [(), (1,), (7, 130, 3)])
def test_statistics_are_those_of_numpy(dtype: str, shape: tuple[int, ...]) -> None:
    output = np.random.Generator(np.random.PCG64(7)).normal(3, 9, shape)
    output = np.asarray(output).astype(dtype).T
    statistics = statistics_of(output)
    assert (statistics.mean, statistics.deviation) == (
        output.mean(dtype=np.float64),
        output.std(dtype=np.float64),
    )
    assert output.size == 1 or statistics.deviation > 0


def test_statistics_of_an_empty_output_are_nan() -> None:
    statistics = statistics_of(np.zeros((0, 3)))
    assert np.isnan([statistics.mean, statistics.deviation]).all()


@pytest.mark.parametrize("value", [0.5, 1e10, np.inf, np.nan])
def test_scalars_are_compared(value: float) -> None:
    scalar = np.array(value)
    assert graph_rows.difference(scalar, scalar).relative == 0
    assert graph_rows.difference(scalar, np.array(2.0)).relative > 0
