"""Every operator computes what MXNet computes, and has MXNet's attributes and defaults."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet_forks
import numpy as np
import pytest
from operator_cases import CASES

from converter.graphs import operators

if TYPE_CHECKING:
    from operator_case import OperatorCase

    from converter.dtypes import Array

PROGRAM = Path(__file__).with_name("operator_outputs.py")
EXACT = 1e-12  # relative to the largest output
SINGLE = 2e-6  # of operators that MXNet computes in float32, in part or as a whole
# LeakyReLU multiplies in float32, BilinearResize2D has coordinates in float32, and the others have no
# float64 kernel.
IN_SINGLE = {
    "_contrib_BilinearResize2D",
    "_contrib_MultiBoxDetection",
    "_contrib_MultiBoxPrior",
    "Crop",
    "GridGenerator",
    "InstanceNorm",
    "LeakyReLU",
    "LRN",
    "SoftmaxActivation",
    "hard_sigmoid",
}


def is_integer(array: Array) -> bool:
    """Return whether the elements of an array are integers."""
    return bool(np.issubdtype(array.dtype, np.integer))


def limit_of(case: OperatorCase) -> float:
    """Return the limit of the error of a case."""
    return SINGLE if case.single or case.operator in IN_SINGLE else EXACT


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Array] | str]:
    folder = tmp_path_factory.mktemp("operators")
    asked = [(case.operator, case.attributes, case.arrays()) for case in CASES]
    (folder / "cases").write_bytes(pickle.dumps(asked))
    mxnet_forks.run(PROGRAM, folder / "cases", folder / "outputs")
    results = pickle.loads((folder / "outputs").read_bytes())  # noqa: S301 - written by our program
    return {str(case): result for case, result in zip(CASES, results, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator_computes_what_mxnet_computes(
    case: OperatorCase, outputs: dict[str, list[Array] | str]
) -> None:
    expected = outputs[str(case)]
    assert not isinstance(expected, str), expected
    operation = operators.parse(case.operator, case.attributes)
    assert operation.compute is not None
    arrays = case.arrays()
    computed = operation.compute(*arrays)
    actual = computed if isinstance(computed, tuple) else (computed,)
    limit = limit_of(case)
    assert len(actual) == operation.outputs
    for ours, theirs in zip(actual, expected[: operation.outputs], strict=True):  # the others are hidden
        assert (ours.shape, is_integer(ours)) == (theirs.shape, is_integer(theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit * max(1e-30, np.abs(theirs).max()))


ATTRIBUTES = sorted({(case.operator, key) for case in CASES for key in case.attributes})
WITHOUT_EFFECT = {  # the inputs have these sizes; in training only
    ("add_n", "num_args"),
    ("Dropout", "p"),
    ("UpSampling", "num_filter"),
}


@pytest.mark.parametrize(("operator", "key"), ATTRIBUTES)
def test_attribute_that_is_not_read_is_caught(
    operator: str, key: str, outputs: dict[str, list[Array] | str]
) -> None:
    """For every attribute there is a case that fails without it."""
    cases = [case for case in CASES if case.operator == operator and key in case.attributes]
    assert any(differs(case, key, outputs[str(case)]) for case in cases) != (
        (operator, key) in WITHOUT_EFFECT
    )


def differs(case: OperatorCase, key: str, expected: list[Array] | str) -> bool:
    """Return whether a case without one of its attributes is refused, or computes something else."""
    left = {name: text for name, text in case.attributes.items() if name != key}
    if isinstance(expected, str):
        return True
    try:
        operation = operators.parse(case.operator, left)
    except ValueError:
        return True
    if operation.outputs != operators.parse(case.operator, case.attributes).outputs:
        return True
    if operation.compute is None or operation.data_inputs not in {
        None,
        len(case.shapes) - len(operation.roles),
    }:
        return True
    try:
        result = operation.compute(*case.arrays())
    except (ValueError, IndexError):
        return True
    actual: tuple[Array, ...] = result if isinstance(result, tuple) else (result,)
    limit = limit_of(case)
    return any(
        (ours.shape, is_integer(ours)) != (theirs.shape, is_integer(theirs))
        or not np.allclose(ours, theirs, rtol=0, atol=limit * max(1e-30, np.abs(theirs).max()))
        for ours, theirs in zip(actual, expected, strict=False)
    )
