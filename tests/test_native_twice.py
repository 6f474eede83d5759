"""The native networks compute what their recorded graphs compute, and what timm's modules compute.

These are two more proofs of them, without MXNet: through a module that is generated from the graph, and
through a module that is aligned with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
import torch

from converter.commands.graph_conversion import convert_graph
from converter.formats.params import write_params
from converter.graphs import codegen, pruning
from converter.networks import catalog, matching, recorded_graphs, synthetic
from converter.parity import execution, generated_network, graph_rows
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array

LIMIT = 1e-12  # measured: at most 1.1e-14
NATIVE = catalog.by_gluon_name()
SOME = [  # one of each kind of block
    *(
        "cifar_resnext29_32x4d",
        "resnet18_v1b",
        "resnet50_v1c",
        "resnet50_v1d",
        "resnet50_v1e",
        "resnet50_v1s",
    ),
    *("resnext50_32x4d", "se_resnext50_32x4d"),
]


def parameters(name: str) -> dict[str, Array]:
    """Return random parameters by structural name."""
    model = NATIVE[name]
    return synthetic.random_params(model.mapping, model.shapes, 1)


def native(name: str, arrays: dict[str, Array]) -> torch.nn.Module:
    model = NATIVE[name]
    state = matching.rename(model.mapping, arrays, model.shapes, name)
    return execution.build(state, model.config).double().eval()


def by_variable(name: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {each.variable: arrays[each.name] for each in recorded_graphs.load(name).parameters}


def error(name: str, net: torch.nn.Module, arrays: dict[str, Array]) -> float:
    """Return the largest relative difference of the logits from those of the recorded graph."""
    graph = pruning.prune(recorded_graphs.load(name).graph).graph
    variables = by_variable(name, arrays)
    shapes = {variable: array.shape for variable, array in variables.items()}
    generated = generated_network.load(codegen.generate(graph, shapes, name), variables, "float64")
    image = np.random.Generator(np.random.PCG64(1)).normal(0, 1, (1, 3, 65, 65))
    (expected,), (output,) = (generated_modules.outputs(each, image) for each in (generated, net))
    return graph_rows.difference(expected, output).relative


@pytest.mark.parametrize("name", SOME)
def test_native_network_is_that_of_the_recorded_graph(name: str) -> None:
    arrays = parameters(name)
    assert error(name, native(name, arrays), arrays) <= LIMIT


def test_other_settings_are_found() -> None:
    arrays = parameters("resnet18_v1b")
    net = native("resnet18_v1b", arrays)
    norm = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eps *= 1.001
    assert error("resnet18_v1b", net, arrays) > 1e3 * LIMIT


@pytest.mark.parametrize(
    ("name", "target"),
    [("resnet18_v1b", "timm:resnet18"), ("resnext50_32x4d", "timm:resnext50_32x4d")],
)
def test_recorded_graph_is_aligned_with_timm(name: str, target: str, tmp_path: Path) -> None:
    graph, params = tmp_path / f"{name}-symbol.json", tmp_path / f"{name}-0000.params"
    graph.write_bytes(recorded_graphs.load(name).graph.content)
    with params.open("wb") as stream:
        write_params(stream, by_variable(name, parameters(name)))
    options = ParityOptions("numpy", dtypes=["float64"])
    result = convert_graph(graph, tmp_path / "out", params=params, target=target, options=options)
    assert result.manifest.parity.proven
