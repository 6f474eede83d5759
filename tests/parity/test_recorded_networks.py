"""The recorded networks are GluonCV's: their graphs, the names of their parameters and their outputs.

With GRAPH_ZOO=all, all graphs are recorded again and all classifiers are compared. Else some graphs are, and
one classifier of each family and a sixteenth of the others, which changes daily.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import gluoncv_networks
import mxnet_forks
import numpy as np
import pytest
import rotation
import torch

from converter.formats.params import open_params, write_params
from converter.graphs import codegen, pruning
from converter.networks import (
    families,
    recorded_detection,
    recorded_graphs,
    recorded_index,
    recorded_parameters,
    recorded_sources,
)
from converter.parity import generated_network, graph_rows

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.networks.recorded_graphs import RecordedNetwork

HERE = Path(__file__).parent
SOME = [
    *("alexnet", "darknet53", "densenet121", "hrnet_w18_small_v1_c", "mobilenetv3_small"),
    *("resnet50_v1d_0.11", "fcn_resnet50_ade", "ssd_512_mobilenet1.0_voc", "yolo3_mobilenet0.25_coco"),
    "center_net_resnet18_v1b_voc",
]
RECORDED = [*recorded_index.index()] if os.environ.get("GRAPH_ZOO") == "all" else SOME
STYLES = ("structural", "prefix", "second", "stripped")
LIMIT = 1e-12  # measured: at most 1.3e-14
# MXNet rounds these operators to float32, also in float64.
ROUNDED = {"LeakyReLU", "_contrib_BilinearResize2D"}
ROUNDED_LIMIT = 1e-6  # measured: at most 7.7e-9


@pytest.mark.parametrize("name", RECORDED)
def test_graph_is_recorded_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    mxnet_forks.run(HERE / "record_graphs.py", tmp_path, name)
    (path,) = tmp_path.glob(f"*{recorded_graphs.SUFFIX}")
    assert path.read_bytes() == (recorded_index.folder() / path.name).read_bytes()


def weights(network: RecordedNetwork) -> dict[str, Array]:
    """Return random weights; smaller gammas where hundreds of layers add up."""
    factor = np.float32(0.5 if network.name in gluoncv_networks.DEEP else 1)
    arrays = recorded_sources.random_weights(network, 1)
    return {name: array * factor if name.endswith("gamma") else array for name, array in arrays.items()}


def image(network: RecordedNetwork) -> Array:
    """Return a small image in float64, or one of the only size that the network takes."""
    if network.entry.probe != network.entry.input:
        return gluoncv_networks.image(network.name)
    return np.random.Generator(np.random.PCG64(1)).normal(0, 1, network.entry.input)


def run(network: RecordedNetwork, folder: Path, image: Array | None = None) -> None:
    """Run GluonCV's network of the same name."""
    with (folder / "weights.params").open("wb") as stream:
        write_params(stream, weights(network))
    if image is not None:
        np.save(folder / "input.npy", image)
    mxnet_forks.run(HERE / "recorded_outputs.py", network.name, folder / "weights.params", folder)


def convert(network: RecordedNetwork, params: Path) -> tuple[torch.nn.Module, set[str]]:
    """Return the network of a module generated from the recorded graph, and the operators of the graph."""
    parameters = open_params(params).arrays
    matched = recorded_parameters.match(network, parameters, network.name)
    arrays = {variable: parameters[own] for own, variable in matched.variables.items()}
    graph = pruning.prune(matched.network.graph).graph
    shapes = {variable: tuple(array.shape) for variable, array in arrays.items()}
    net = generated_network.load(codegen.generate(graph, shapes, network.name), arrays, "float64")
    return net, {node.operator for node in graph.nodes}


def error(net: torch.nn.Module, data: Array, folder: Path) -> float:
    """Return the largest difference from GluonCV's output, over the standard deviation of that."""
    output, *_ = generated_modules.outputs(net, data)  # NASNet also returns an auxiliary head
    return graph_rows.difference(np.load(folder / "output.npy"), output).relative


@pytest.mark.parametrize("name", rotation.chosen(gluoncv_networks.CLASSIFICATION, families.find))
def test_outputs_are_those_of_gluoncv(name: str, tmp_path: Path) -> None:
    network = recorded_graphs.load(name)
    run(network, tmp_path, data := image(network))
    net, operators = convert(network, tmp_path / "structural.params")
    assert error(net, data, tmp_path) <= (ROUNDED_LIMIT if ROUNDED & operators else LIMIT)


def test_changed_layer_changes_the_outputs(tmp_path: Path) -> None:
    network = recorded_graphs.load("cifar_resnet20_v1")
    run(network, tmp_path, data := image(network))
    net, _ = convert(network, tmp_path / "structural.params")
    norm = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eps *= 1.001
    assert error(net, data, tmp_path) > 1e3 * LIMIT


@pytest.mark.parametrize("name", [*SOME, "googlenet", "resnet50_v2", "shufflenet_v2", "nasnet_4_1056"])
def test_names_of_every_style_are_resolved(name: str, tmp_path: Path) -> None:
    network = recorded_graphs.load(name)
    run(network, tmp_path)
    expected: dict[str, Array] = {}
    for style in STYLES:
        if style == "stripped" and not (tmp_path / "stripped.params").exists():
            continue
        arrays = open_params(tmp_path / f"{style}.params").arrays
        matched = recorded_parameters.match(network, arrays, style)
        found = {variable: np.asarray(arrays[own]) for own, variable in matched.variables.items()}
        expected = expected or found
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[variable], expected[variable]) for variable in expected)
        assert recorded_detection.detect(arrays, "", style) == name
