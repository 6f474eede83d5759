"""The tables in mappings/targets name GluonCV's networks as timm and torchvision do, with the same outputs.

Those of one network of each family are tested; with TARGET_TABLES=all, all of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
import torch

from converter.errors import UsageError
from converter.graphs import codegen, pruning
from converter.networks import families, mapping, recorded_graphs, recorded_sources, target_tables
from converter.parity import generated_network, graph_rows
from converter.targets import adaptation, building, layer_table, state

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.targets.layer_table import TableFile

LIMIT = 1e-12  # measured: at most 1.4e-14
TABLES = [path for own in target_tables.tables().values() for path in own.values()]
NAMES = [path.relative_to(mapping.folder() / target_tables.FOLDER) for path in TABLES]
FAMILY = {name: key for key, family in families.families().items() for name in family.names}
FIRST = {FAMILY[name.name.removesuffix(target_tables.SUFFIX)]: name for name in reversed(NAMES)}
SOME = NAMES if os.environ.get("TARGET_TABLES") == "all" else [*FIRST.values()]
CONVERTED = Path("timm/mobilenet1.0.toml")


def read(name: Path) -> TableFile:
    return layer_table.read(mapping.folder() / target_tables.FOLDER / name)


def error(name: Path, table: TableFile) -> float:
    """Return the largest relative difference of the module's outputs from those of the recorded graph."""
    network = recorded_graphs.load(name.name.removesuffix(target_tables.SUFFIX))
    arrays = recorded_sources.random_arrays(network, 1)
    by_variable = {each.variable: arrays[each.name] for each in network.parameters}
    graph = pruning.prune(network.graph).graph
    shapes = {variable: array.shape for variable, array in by_variable.items()}
    generated = codegen.generate(graph, shapes, network.name)
    image = np.random.Generator(np.random.PCG64(1)).normal(0, 1, network.entry.probe)
    image = np.concatenate([image, 32 * np.flip(image, -1)])  # which reaches the bound of a ReLU6
    (expected,) = outputs(generated_network.load(generated, by_variable, "float64"), image)
    module = building.build(table.target)
    adaptation.apply(module, table.table.adaptations)
    plan = table.plan({key: tuple(tensor.shape) for key, tensor in module.state_dict().items()})
    weights = state.state_arrays(module, plan.assignments, by_variable, generated.ones)
    tensors = {key: torch.from_numpy(np.array(array)) for key, array in weights}
    module.double().load_state_dict(tensors)
    (output,) = outputs(module.eval(), image)
    return graph_rows.difference(expected, output).relative


def outputs(net: torch.nn.Module, image: Array) -> list[Array]:
    return generated_modules.outputs(net, image)


@pytest.mark.parametrize("name", SOME, ids=str)
def test_outputs_are_those_of_the_graph(name: Path) -> None:
    assert error(name, read(name)) <= LIMIT


def test_exchanged_layers_change_the_outputs(tmp_path: Path) -> None:
    text = (mapping.folder() / target_tables.FOLDER / CONVERTED).read_text()
    first, second = '"blocks.1.1.bn1"', '"blocks.1.1.bn2"'
    assert first in text
    assert second in text
    path = tmp_path / "exchanged.toml"
    path.write_text(text.replace(first, "X").replace(second, first).replace("X", second))
    table = layer_table.read(path)
    assert error(CONVERTED, read(CONVERTED)) <= LIMIT
    assert error(CONVERTED, table) > 1e3 * LIMIT


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_table_names_every_parameter_of_the_recorded_network(name: Path) -> None:
    table, network = read(name), recorded_graphs.load(name.name.removesuffix(target_tables.SUFFIX))
    used = set(pruning.prune(network.graph).graph.variables)
    expected = {each.variable for each in network.parameters} & used
    assert {*table.names, *table.table.folded_biases} == expected
    assert table.table.target.startswith(f"{name.parent}:")


@pytest.mark.parametrize(
    ("name", "package", "hint"),
    [("mobilenet1.0", "torchvision", "--target timm"), ("c3d_kinetics400", "timm", "--target timm:MODULE")],
)
def test_missing_table_is_reported(name: str, package: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no table of {package}'s names for {name}\n  try  {hint}"):
        target_tables.path(name, package)
