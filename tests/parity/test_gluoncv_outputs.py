"""Every classification network of GluonCV that can be exported, as a module, has MXNet's outputs in float64.

``test_gluoncv_networks.py`` compares every layer of some of them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import gluoncv_networks
import pytest

from converter.parity import graph_proof
from converter.references import symbol

if TYPE_CHECKING:
    from converter.dtypes import Array

LIMIT = 1e-12


def error(expected: Array, actual: Array) -> float:
    """Return the largest difference, over the standard deviation of the expected values."""
    assert expected.shape == actual.shape
    return float(abs(expected - actual).max() / expected.std())


@pytest.mark.parametrize("name", gluoncv_networks.CLASSIFICATION)
def test_outputs_are_those_of_mxnet(name: str, tmp_path: Path) -> None:
    converted, image = gluoncv_networks.convert(name, tmp_path), gluoncv_networks.image(name)
    request = graph_proof.request(converted, [("float64", {"data": image})])
    last = replace(request, nodes=[node for node, _ in request.heads])
    with symbol.start(Path(sys.executable), last) as child:
        expected = {(node, output): array for node, output, array in child.outputs(0)}
        child.reply()
    net = graph_proof.load(converted.module, converted.parameters, "float64")
    actual = generated_modules.outputs(net, image)
    errors = [error(expected[head], other) for head, other in zip(request.heads, actual, strict=True)]
    assert max(errors) < LIMIT, errors
