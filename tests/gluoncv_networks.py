"""The networks of GluonCV that can be exported, converted from their graphs with random parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import mxnet_forks
import numpy as np

from converter.graphs import codegen, pruning, reader
from converter.parity.graph_proof import ConvertedGraph

if TYPE_CHECKING:
    from converter.dtypes import Array

HERE = Path(__file__).parent / "parity"


def _read(file: str) -> dict[str, str]:
    return dict(line.split() for line in (HERE / file).read_text().splitlines())


# {name: shape of a small input}
CLASSIFICATION = {name: f"1x3x{size}x{size}" for name, size in _read("classification.txt").items()}
TASKS = _read("tasks.txt")  # other than classification
SHAPES = CLASSIFICATION | TASKS
# They select boxes: an end-to-end comparison would compare the choice between almost equal ones.
DETECTION = [name for name in TASKS if name.startswith(("center_net", "ssd", "yolo3"))]
# Hundreds of layers add signals and multiply them by gates: with larger gammas roundings grow, in MXNet too.
DEEP = {
    *("cifar_residualattentionnet452", "residualattentionnet164", "residualattentionnet200"),
    *("residualattentionnet236", "residualattentionnet452"),
}
QUIET_GAMMA = (0.3, 0.6)


def convert(name: str, folder: Path) -> ConvertedGraph:
    """Export a network with GluonCV into a folder, and convert its graph."""
    mxnet_forks.run(HERE / "export_graphs.py", folder, name, SHAPES[name])
    shapes = {
        variable: tuple(shape)
        for variable, shape in json.loads((folder / f"{name}-shapes.json").read_text()).items()
    }
    graph = reader.read(folder / f"{name}-symbol.json")
    pruned = pruning.prune(graph)
    return ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=codegen.generate(pruned.graph, shapes, name),
        parameters=generated_modules.random_parameters(shapes, *([QUIET_GAMMA] if name in DEEP else [])),
    )


def image(name: str) -> Array:
    """Return a random input of a network in float64."""
    shape = tuple(map(int, SHAPES[name].split("x")))
    return np.random.Generator(np.random.PCG64(1)).normal(0, 1, shape)
