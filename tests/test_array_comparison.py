from __future__ import annotations

import numpy as np
import pytest

from converter.formats import array_comparison

DTYPES = ["bool", "int8", "uint8", "int64", "float16", "float32", "float64", "complex64", "complex128"]
QUIET_NAN, OTHER_NAN = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_compared_bit_by_bit(dtype: str) -> None:
    zeros = np.zeros((2, 3), dtype)
    one = zeros.copy()
    one[1, 2] = 1
    assert array_comparison.compare("a", zeros, zeros.copy()) is None
    diff = array_comparison.compare("a", zeros, one)
    assert str(diff) == "1 of 6 elements differ, by up to 1.0e+00"


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
def test_every_shape_is_compared(shape: tuple[int, ...]) -> None:
    zeros = np.zeros(shape, np.float32)
    assert array_comparison.compare("a", zeros, zeros.copy()) is None
    diff = array_comparison.compare("a", zeros, zeros + np.float32(1))
    assert (diff.count if diff else 0) == zeros.size


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (1.0, np.nextafter(np.float32(1), np.float32(2)), "1 of 2 elements differ, by up to 1.2e-07"),
        (0.0, -0.0, "1 of 2 elements differ, but are equal in float64"),
        (QUIET_NAN, OTHER_NAN, "1 of 2 elements differ, some not finite"),
        (1.0, np.nan, "1 of 2 elements differ, some not finite"),
        (np.inf, -np.inf, "1 of 2 elements differ, some not finite"),
        (3e38, -3e38, "1 of 2 elements differ, by up to 6.0e+38"),
    ],
)
def test_changed_element_is_reported(one: float, other: float, found: str) -> None:
    first, second = np.array([one, 7], np.float32), np.array([other, 7], np.float32)
    assert str(array_comparison.compare("a", first, second)) == found
    assert array_comparison.compare("a", first, first.copy()) is None
    assert array_comparison.compare("a", second, second.copy()) is None


def test_common_nonfinite_elements_do_not_hide_the_maximum() -> None:
    one = np.array([np.nan, np.inf, 1], np.float32)
    other = np.array([np.nan, np.inf, 1.5], np.float32)
    assert str(array_comparison.compare("a", one, other)) == "1 of 3 elements differ, by up to 5.0e-01"


def test_overflowing_difference_has_no_maximum() -> None:
    diff = array_comparison.compare("a", np.array([1e308]), np.array([-1e308]))
    assert diff is not None
    assert (diff.count, diff.max_abs) == (1, None)


def test_different_shapes_are_reported_without_a_count() -> None:
    diff = array_comparison.compare("a", np.zeros((2, 3)), np.zeros((3, 2)))
    assert diff == array_comparison.TensorDiff("a", ((2, 3), (3, 2)), ("float64", "float64"), None, 6, None)
    assert str(diff) == "shape (2, 3) vs (3, 2)"


def test_different_dtypes_with_equal_values_differ() -> None:
    single = np.array([np.nan, np.inf, -np.inf, 0, 0.1], np.float32)
    diff = array_comparison.compare("a", single, single.astype(np.float64))
    assert diff is not None
    assert diff.count == 0
    assert str(diff) == "float32 vs float64, equal values"


def test_unequal_values_of_different_dtypes_are_counted() -> None:
    double = np.array([np.nan, 0.1, 0.5])
    diff = array_comparison.compare("a", double, double.astype(np.float32))
    assert str(diff) == "float64 vs float32, 1 of 3 elements differ, by up to 1.5e-09"
    numbers = np.array([7, 0.5, np.nan], np.float32)
    diff = array_comparison.compare("a", double, numbers)
    assert str(diff) == "float64 vs float32, 3 of 3 elements differ, some not finite"


def test_memory_order_does_not_matter() -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_comparison.compare("a", one, np.asfortranarray(one)) is None
    assert array_comparison.compare("a", one, one[:, ::-1]) is not None


def test_same_values_ignores_precision() -> None:
    one = np.array([0.1, np.nan], np.float32)
    assert array_comparison.same_values(one, one.copy())
    assert array_comparison.same_values(one, one.astype(np.float64))
    assert not array_comparison.same_values(one, one.astype(np.float16))
    assert not array_comparison.same_values(one, one[:1])
