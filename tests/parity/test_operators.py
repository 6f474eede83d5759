"""Every operator computes what MXNet computes, and has MXNet's attributes and defaults."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from operator_cases import CASES, OperatorCase

from converter.graphs import operators

if TYPE_CHECKING:
    from converter.dtypes import Array

PROGRAM = Path(__file__).with_name("operator_outputs.py")
EXACT = 1e-12  # relative to the largest output
SINGLE = 2e-6  # of operators that MXNet computes in float32, in part or as a whole
# LeakyReLU multiplies in float32, BilinearResize2D has coordinates in float32, and the others have no
# float64 kernel.
IN_SINGLE = {
    "_contrib_BilinearResize2D",
    "Crop",
    "InstanceNorm",
    "LeakyReLU",
    "LRN",
    "SoftmaxActivation",
    "hard_sigmoid",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Array] | str]:
    folder = tmp_path_factory.mktemp("operators")
    asked = [(case.operator, case.attributes, case.arrays()) for case in CASES]
    (folder / "cases").write_bytes(pickle.dumps(asked))
    subprocess.check_call([sys.executable, PROGRAM, folder / "cases", folder / "outputs"])
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
    limit = SINGLE if case.operator in IN_SINGLE else EXACT
    assert len(actual) == operation.outputs
    for ours, theirs in zip(actual, expected[: operation.outputs], strict=True):  # the others are hidden
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit * max(1e-30, np.abs(theirs).max()))
