"""Networks of GluonCV for segmentation, poses and actions, as modules, have MXNet's outputs in float64.

So have the classifiers with operators that MXNet rounds to float32: here they run in the rewriting that does
not round. ``test_recorded_networks.py`` compares classifiers with GluonCV itself, and
``test_gluoncv_networks.py`` compares every layer of some networks, also of those that detect objects.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import gluoncv_networks
import numpy as np
import pytest
import rotation
import torch
from gluoncv_networks import CLASSIFICATION, DETECTION, TASKS

from converter.networks import families
from converter.parity import generated_network, graph_proof, graph_rows
from converter.parity.graph_rows import REWRITING_LIMIT
from converter.references import symbol

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.parity.graph_proof import ConvertedGraph

ROUNDED = rotation.chosen(
    (name for name in CLASSIFICATION if name == "darknet53" or "residualattentionnet" in name), families.find
)
NAMES = [*ROUNDED, *(name for name in TASKS if name not in DETECTION)]
LIMIT = 1e-12  # measured: at most 2e-14


def errors(converted: ConvertedGraph, net: torch.nn.Module, image: Array) -> list[float]:
    """Return the largest difference of each output from MXNet's, over the standard deviation of MXNet's.

    Outputs that are not finite, or have other shapes, are infinitely far apart.
    """
    request = graph_proof.request(converted, [("float64", {"data": image})])
    last = replace(request, nodes=[node for node, _ in request.heads])
    with symbol.start(Path(sys.executable), last) as child:
        expected = {(node, output): array for node, output, array in child.outputs(0)}
        _, _, rewriting = child.reply()
    assert rewriting <= REWRITING_LIMIT
    assert all(np.isfinite(array).all() for array in expected.values())
    outputs = zip(request.heads, generated_modules.outputs(net, image), strict=True)
    return [graph_rows.difference(expected[head], array).relative for head, array in outputs]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_mxnet(name: str, tmp_path: Path) -> None:
    converted = gluoncv_networks.convert(name, tmp_path)
    net = generated_network.load(converted.module, converted.parameters, "float64")
    assert all(error <= LIMIT for error in errors(converted, net, gluoncv_networks.image(name)))


def test_changed_layer_changes_the_outputs(tmp_path: Path) -> None:
    name = "cifar_resnet20_v1"
    converted = gluoncv_networks.convert(name, tmp_path)
    net = generated_network.load(converted.module, converted.parameters, "float64")
    norm = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eps *= 1.001
    (error,) = errors(converted, net, gluoncv_networks.image(name))
    assert 1e3 * LIMIT < error < np.inf
    norm.eps = np.nan
    assert errors(converted, net, gluoncv_networks.image(name)) == [np.inf]
