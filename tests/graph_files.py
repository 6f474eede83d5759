"""Writes a small graph and its parameters as MXNet does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import generated_modules
import numpy as np
from graph_building import Network, variable

from converter.formats.params import write_params

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array


def small_network() -> Network:
    """Return a residual network of one channel and five classes; its loss is named ``softmax``."""
    network = Network()
    x = network.norm("bn0", network.conv("conv0", "data", 1, 8, stride=2), 8)
    x = network.residual("stage1_unit1", x, 8, 8)
    x = network.residual("stage1_unit2", x, 8, 8)
    x = network.apply("Pooling", "pool1", x, global_pool="True", pool_type="avg")
    network.nodes.append(variable("softmax_label"))
    network.apply("SoftmaxOutput", "softmax", network.dense("fc1", x, 8, 5), "softmax_label")
    return network


def parameters(network: Network) -> dict[str, Array]:
    """Return random parameters of a network in float32."""
    random = generated_modules.random_parameters(network.shapes)
    return {name: array.astype(np.float32) for name, array in random.items()}


def save(folder: Path, network: Network, arrays: dict[str, Array]) -> tuple[Path, Path]:
    """Write the graph and the parameters, and return their paths."""
    graph, params = folder / "face net-symbol.json", folder / "face net-0000.params"
    graph.write_bytes(network.build("softmax").content)
    with params.open("wb") as stream:
        write_params(stream, arrays)
    return graph, params
