"""Every classification network of GluonCV that can be exported, as a module, has MXNet's outputs in float64.

So have networks for segmentation, poses and actions. ``test_gluoncv_networks.py`` compares every layer of
some of them, and of networks that detect objects.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import gluoncv_networks
import pytest
import torch
from gluoncv_networks import DETECTION, SHAPES

from converter.parity import generated_network, graph_proof
from converter.references import symbol

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.parity.graph_proof import ConvertedGraph

LIMIT = 1e-12


def errors(converted: ConvertedGraph, net: torch.nn.Module, image: Array) -> list[float]:
    """Return the largest difference of each output from MXNet's, over the standard deviation of MXNet's."""
    request = graph_proof.request(converted, [("float64", {"data": image})])
    last = replace(request, nodes=[node for node, _ in request.heads])
    with symbol.start(Path(sys.executable), last) as child:
        expected = {(node, output): array for node, output, array in child.outputs(0)}
        child.reply()
    outputs = zip(request.heads, generated_modules.outputs(net, image), strict=True)
    return [float(abs(expected[head] - array).max() / expected[head].std()) for head, array in outputs]


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in DETECTION])
def test_outputs_are_those_of_mxnet(name: str, tmp_path: Path) -> None:
    converted = gluoncv_networks.convert(name, tmp_path)
    net = generated_network.load(converted.module, converted.parameters, "float64")
    assert max(errors(converted, net, gluoncv_networks.image(name))) < LIMIT


def test_changed_layer_changes_the_outputs(tmp_path: Path) -> None:
    name = "cifar_resnet20_v1"
    converted = gluoncv_networks.convert(name, tmp_path)
    net = generated_network.load(converted.module, converted.parameters, "float64")
    norm = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eps *= 1.001
    assert max(errors(converted, net, gluoncv_networks.image(name))) > 1e3 * LIMIT
