"""GluonCV's networks become modules that compute what MXNet computes, layer by layer.

Only some by default; with GRAPH_ZOO=all every classification network that can be exported, and several of
each other task, which takes an hour. ``test_gluoncv_outputs.py`` compares the outputs of the others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import gluoncv_networks
import pytest

from converter.parity import graph_proof

if TYPE_CHECKING:
    from collections.abc import Callable

SOME = [  # one of each kind of block
    *("cifar_residualattentionnet56", "cifar_resnet20_v2", "densenet121", "googlenet"),
    *("hrnet_w18_small_v1_c", "mobilenetv3_small", "resnest14"),
    *gluoncv_networks.DETECTION,
]
NAMES = [*gluoncv_networks.SHAPES] if os.environ.get("GRAPH_ZOO") == "all" else SOME


@pytest.mark.parametrize("name", NAMES)
def test_network_is_proven(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    converted, image = gluoncv_networks.convert(name, tmp_path), gluoncv_networks.image(name)
    dtypes = ("float64", "float32")
    runs = [(dtype, {"data": image.astype(dtype)}) for dtype in dtypes]
    proof = graph_proof.prove(converted, runs, Path(sys.executable))
    worst = {dtype: proof.worst(dtype) for dtype in dtypes}
    lines = converted.module.source.count("\n")
    record_property("proof", (len(converted.module.layers), worst, proof.rewriting, lines))
    proof.require()
    operator_count = sum(node.operator != "null" for node in converted.whole.nodes)
    assert lines < 2 * operator_count + 100
