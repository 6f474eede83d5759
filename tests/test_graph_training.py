"""Generated modules in training mode: what is trained, and which statistics are used and updated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import Network, build, variable
from safetensors.torch import save_file

from converter.graphs import codegen

if TYPE_CHECKING:
    from pathlib import Path

    from graph_building import Described

IMAGES = np.random.Generator(np.random.PCG64(0)).normal(1, 2, (4, 3, 5, 6))


def images(net: Network) -> str:
    """Add a pool that changes nothing, after which the number of axes is known."""
    return net.apply("Pooling", "pool0", "data", kernel="(1, 1)", pool_type="avg")


def normalized(**attributes: str) -> tuple[torch.nn.Module, codegen.GeneratedModule]:
    """Return a network of one BatchNorm, in training mode."""
    net = Network()
    net.norm("bn0", images(net), 3, **attributes)
    module = codegen.generate(net.build("bn0"), net.shapes, "net")
    return generated_modules.network(module, generated_modules.random_parameters(net.shapes)).train(), module


def trained(network: torch.nn.Module) -> set[str]:
    """Return the names of the parameters that get a gradient."""
    network(torch.from_numpy(IMAGES)).square().sum().backward()
    return {name for name, tensor in network.named_parameters() if tensor.grad is not None}


@pytest.mark.parametrize(("momentum", "update"), [("0.9", 0.1), ("0.99", 0.01), ("0.5", 0.5)])
def test_momentum_is_the_part_of_the_batch(momentum: str, update: float) -> None:
    network, _ = normalized(momentum=momentum)
    before = network.get_buffer("bn0.running_mean").clone().numpy()
    generated_modules.outputs(network, IMAGES)
    expected = (1 - update) * before + update * IMAGES.mean((0, 2, 3))
    np.testing.assert_allclose(network.get_buffer("bn0.running_mean").numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("fixed", [False, True])
def test_fixed_gamma_is_not_trained(*, fixed: bool) -> None:
    network, _ = normalized(fix_gamma=str(fixed))
    assert trained(network) == {"bn0.bias"} | (set() if fixed else {"bn0.weight"})


def test_fixed_gamma_of_loaded_weights_is_not_trained(tmp_path: Path) -> None:
    network, module = normalized()
    path = tmp_path / "net.safetensors"
    state = {name: tensor.float() for name, tensor in network.state_dict().items()}
    save_file({name: state[name] for name in module.tensors.values()}, path)
    loaded = generated_modules.load_source(module.source)["load"](str(path))
    assert [name for name, each in loaded.named_parameters() if not each.requires_grad] == ["bn0.weight"]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("operator", ["BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm"])
def test_global_statistics_are_used_in_training_and_kept(operator: str, *, frozen: bool) -> None:
    net = Network()
    key = {"key": "bn"} if operator == "_contrib_SyncBatchNorm" else {}
    net.norm("bn0", images(net), 3, use_global_stats=str(frozen), fix_gamma="False", **key)
    *variables, (_, name, attributes, inputs) = net.nodes
    graph = build(*variables, (operator, name, attributes, inputs), heads=["bn0"])
    module = codegen.generate(graph, net.shapes, "net")
    network = generated_modules.network(module, generated_modules.random_parameters(net.shapes))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    (expected,) = generated_modules.outputs(network, IMAGES)
    (output,) = generated_modules.outputs(network.train(), IMAGES)
    assert np.array_equal(output, expected) == frozen
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) == frozen
    assert trained(network) == {"bn0.weight", "bn0.bias"}


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_of_computed_parameters_trains_too(*, frozen: bool) -> None:
    """It is written as an expression, because its beta is no variable."""
    net = Network()
    net.norm("bn0", "data", 3, use_global_stats=str(frozen))
    *variables, (operator, name, attributes, inputs) = net.nodes
    negative: Described = ("negative", "beta", {}, ["bn0_beta"])
    changed = ["beta" if each == "bn0_beta" else each for each in inputs]
    graph = build(*variables, negative, (operator, name, attributes, changed), heads=["bn0"])
    module = codegen.generate(graph, net.shapes, "net")
    assert "F.batch_norm(" in module.source
    network = generated_modules.network(module, generated_modules.random_parameters(net.shapes))
    (expected,) = generated_modules.outputs(network, IMAGES)
    (output,) = generated_modules.outputs(network.train(), IMAGES)
    assert np.array_equal(output, expected) == frozen
    if not frozen:
        assert output.mean((0, 2, 3)) == pytest.approx(-network.get_parameter("bn0.beta").detach().numpy())


def test_dropout_is_active_in_training_alone() -> None:
    graph = build(variable("data"), ("Dropout", "drop0", {"p": "0.25"}, ["data"]), heads=["drop0"])
    network = generated_modules.network(codegen.generate(graph, {}, "net"), {})
    ones = np.ones((100, 100))
    torch.manual_seed(0)
    (output,) = generated_modules.outputs(network, ones)
    assert np.array_equal(output, ones)
    (output,) = generated_modules.outputs(network.train(), ones)
    assert set(output.ravel()) == {0, 1 / 0.75}
    assert (output == 0).mean() == pytest.approx(0.25, abs=0.02)
