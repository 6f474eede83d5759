from __future__ import annotations

import numpy as np
import pytest

from converter.parity import samples


def outputs(size: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    reference = np.random.Generator(np.random.PCG64(1)).standard_normal((size // 10, 10), dtype=np.float32)
    return reference, reference.copy()


def test_small_output_is_taken_whole_and_in_order() -> None:
    reference, module = outputs(40)
    found = samples.select(reference, module)
    assert found is not None
    assert found.reference == found.module == tuple(reference.ravel().tolist())
    assert found.total == 40


def test_samples_are_bounded_and_contain_the_largest_differences() -> None:
    reference, module = outputs(100_000)
    module[500:503, 4] += (1, 2, 3)
    found = samples.select(reference, module)
    assert found is not None
    assert 1900 < len(found.reference) == len(found.module) <= samples.MAX_SAMPLES
    assert found.total == 100_000
    changed = {*zip(found.reference, found.module, strict=True)} - {
        *zip(found.reference, found.reference, strict=True)
    }
    assert changed == {(float(reference[row, 4]), float(module[row, 4])) for row in (500, 501, 502)}


def test_samples_are_reproducible() -> None:
    assert samples.select(*outputs(100_000)) == samples.select(*outputs(100_000))


def test_values_that_are_not_finite_are_left_out() -> None:
    reference, module = outputs(40)
    reference[0, 0], module[0, 1], module[0, 2] = np.nan, np.inf, -np.inf
    found = samples.select(reference, module)
    assert found is not None
    assert found.reference == tuple(reference.ravel()[3:].tolist())
    assert found.total == 37


@pytest.mark.parametrize(
    ("reference", "module"),
    [(np.zeros(3), np.zeros((3, 1))), (np.zeros(0), np.zeros(0)), (np.full(3, np.nan), np.zeros(3))],
    ids=["shapes", "empty", "not finite"],
)
def test_outputs_without_common_values_have_no_samples(
    reference: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    module: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    assert samples.select(reference, module) is None


def test_integers_become_numbers_of_json() -> None:
    found = samples.select(np.array([1, 2]), np.array([1, 3]))
    assert found is not None
    assert (found.reference, found.module) == ((1.0, 2.0), (1.0, 3.0))
