"""Folding BatchNorms keeps the logits, in every kind of network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from resnext_torch import CONFIGS, Config, ResNeXt, create_model, fuse

if TYPE_CHECKING:
    from collections.abc import Callable

# Relative to the logits' standard deviation, in float64; measured 2e-15.
LIMIT = 1e-12

KINDS = {
    "plain": "gluon_resnext50_32x4d",
    "squeeze-and-excitation": "gluon_seresnext50_32x4d",
    "basic blocks": "gluon_resnet18_v1b",
    "deep stem": "gluon_resnet50_v1c",
    "pooled shortcuts": "gluon_resnet50_v1d",
    "some shortcuts pooled": "gluon_resnext101e_64x4d",
    "senet": "gluon_senet154",
    "senet, pooled": "gluon_senet154e",
    "cifar": "gluon_cifar_resnext29_32x4d",
}


def shallow(name: str) -> Config:
    """Return a network's configuration with one block per stage, two in the second, and few groups."""
    config = CONFIGS[name]
    depths = (1, 2, 1, 1)[: len(config.depths)]
    return replace(config, depths=depths, cardinality=min(config.cardinality, 2), num_classes=10)


def random_network(config: Config) -> ResNeXt:
    """Return a float64 network whose BatchNorms have random parameters and statistics."""
    torch.manual_seed(0)
    model = ResNeXt(config).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(batch_norm_array(module.running_mean), -0.1, 0.1)
            nn.init.uniform_(batch_norm_array(module.running_var), 0.8, 1.2)
    return model


def batch_norm_array(array: Tensor | None) -> Tensor:
    assert array is not None  # BatchNorm2d(track_running_stats=True)
    return array


def images() -> Tensor:
    return torch.randn(2, 3, 65, 97, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def distance(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference between two networks' logits, in standard deviations."""
    return difference(ours(images()), theirs(images()))


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.std())


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_fused_network_has_no_batch_norms_and_equal_logits(name: str) -> None:
    model = random_network(shallow(name))
    fused = fuse(model)
    assert not batch_norms(fused)
    assert distance(model, fused) <= LIMIT


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
@torch.no_grad()
def test_every_batch_norm_affects_the_logits(name: str) -> None:
    model = random_network(shallow(name))
    expected = fuse(model)(images())
    for norm in batch_norms(model):
        mean = batch_norm_array(norm.running_mean)
        kept = mean.clone()
        mean += 0.5
        assert difference(model(images()), expected) > 1e3 * LIMIT
        mean.copy_(kept)
    assert difference(model(images()), expected) <= LIMIT


def test_fusing_does_not_change_the_original() -> None:
    model = random_network(shallow("gluon_seresnext50_32x4d"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = fuse(model)
    for parameter in fused.parameters():
        parameter.data.zero_()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_network_in_training_mode_is_refused() -> None:
    model = random_network(shallow("gluon_resnet18_v1b")).train()
    with pytest.raises(ValueError, match=r"cannot fuse a network in training mode; call eval\(\) first"):
        fuse(model)


def test_batch_norm_without_a_preceding_convolution_is_named() -> None:
    model = random_network(shallow("gluon_resnet18_v1b"))
    model.conv1 = nn.Identity()
    with pytest.raises(ValueError, match="bn1: cannot be fused, because no convolution precedes it"):
        fuse(model)


def test_fused_network_has_one_bias_per_batch_norm() -> None:
    model = create_model("gluon_resnext50_32x4d").eval()
    convs = [module for module in fuse(model).modules() if isinstance(module, nn.Conv2d)]
    assert sum(conv.bias is not None for conv in convs) == len(batch_norms(model)) == 53


def test_fused_network_can_be_traced() -> None:
    fused = fuse(random_network(shallow("gluon_seresnext50_32x4d")))
    traced = torch.fx.symbolic_trace(fused)
    assert distance(fused, traced) == 0


def test_fused_network_compiles_without_a_graph_break() -> None:
    fused = fuse(random_network(shallow("gluon_seresnext50_32x4d")))
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    assert distance(fused, compiled) <= LIMIT


def test_network_with_changed_layers_is_refused() -> None:
    model = create_model("gluon_cifar_resnext29_32x4d").eval()
    block: Any = model.get_submodule("layer1.0")
    torch.nn.init.uniform_(block.bn3.running_mean)
    block.register_forward_hook(lambda _module, _inputs, output: output * 2)
    fuse(model)  # accepted: the hook acts on both sides
    block.conv3 = torch.nn.Sequential(block.conv3, torch.nn.ReLU())
    with pytest.raises(
        ValueError, match="the logits of the fused network differ; layers of the network were changed"
    ):
        fuse(model)
