"""GluonCV's networks become modules that compute what MXNet computes, layer by layer.

Only some by default; with GRAPH_ZOO=all every classification network that can be exported, and several of
each other task, which takes half an hour.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import mxnet_forks
import numpy as np
import pytest

from converter.graphs import codegen, pruning, reader
from converter.parity import graph_proof

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CLASSIFICATION = dict(line.split() for line in (HERE / "classification.txt").read_text().splitlines())
TASKS = dict(line.split() for line in (HERE / "tasks.txt").read_text().splitlines())
SHAPES = {name: f"1x3x{size}x{size}" for name, size in CLASSIFICATION.items()} | TASKS
SOME = [  # one of each kind of block
    *("cifar_residualattentionnet56", "cifar_resnet20_v2", "darknet53", "densenet121", "googlenet"),
    *("hrnet_w18_small_v1_c", "mobilenetv3_small", "mobilenetv2_0.25", "resnest14", "squeezenet1.0"),
    *("mobile_pose_mobilenetv3_small", "yolo3_mobilenet0.25_coco"),
]
NAMES = [*SHAPES] if os.environ.get("GRAPH_ZOO") == "all" else SOME
# Hundreds of layers add signals and multiply them by gates: with larger gammas roundings grow, in MXNet too.
DEEP = {
    *("cifar_residualattentionnet452", "residualattentionnet164", "residualattentionnet200"),
    *("residualattentionnet236", "residualattentionnet452"),
}
QUIET_GAMMA = (0.3, 0.6)


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the networks of the selected tests in one process."""
    folder = tmp_path_factory.mktemp("zoo")
    selected = {item.name for item in request.session.items}
    names = [name for name in NAMES if f"test_network_is_proven[{name}]" in selected]
    networks = [f"{name}:{SHAPES[name]}" for name in names]
    mxnet_forks.run(HERE / "export_graphs.py", folder, *networks)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_network_is_proven(name: str, exported: Path, record_property: Callable[[str, object], None]) -> None:
    shapes = {
        variable: tuple(shape)
        for variable, shape in json.loads((exported / f"{name}-shapes.json").read_text()).items()
    }
    graph = reader.read(exported / f"{name}-symbol.json")
    pruned = pruning.prune(graph)
    module = codegen.generate(pruned.graph, shapes, name)
    converted = graph_proof.ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=module,
        parameters=generated_modules.random_parameters(shapes, *([QUIET_GAMMA] if name in DEEP else [])),
    )
    shape = tuple(map(int, SHAPES[name].split("x")))
    image = np.random.Generator(np.random.PCG64(1)).normal(0, 1, shape)
    dtypes = ("float64", "float32")
    runs = [(dtype, {"data": image.astype(dtype)}) for dtype in dtypes]
    proof = graph_proof.prove(converted, runs, Path(sys.executable))
    worst = {dtype: proof.worst(dtype) for dtype in dtypes}
    lines = module.source.count("\n")
    record_property("proof", (len(module.layers), worst, proof.rewriting, lines))
    proof.require()
    operator_count = sum(node.operator != "null" for node in graph.nodes)
    assert lines < 2 * operator_count + 100
