"""Attributes and methods of a network equal those of timm's network of the same name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from timm.models import PretrainedCfg, group_parameters
from torch import nn

from converter.targets.building import WithoutInitialization
from resnext_torch import CONFIGS, ResNeXt, create_model
from resnext_torch.names import TAGGED

if TYPE_CHECKING:
    from torch import Tensor

SMALL = "resnet18.gluon_in1k"
POOLS = ["avg", "max", "avgmax", "catavgmax"]
# What timm's description says about the published weights, which a network with initial weights has not.
OF_WEIGHTS = {"url", "hf_hub_id", "tag", "license", "origin_url", "custom_load", "architecture"}
ATTRIBUTES = [
    "num_classes",
    "num_features",
    "head_hidden_size",
    "in_chans",
    "drop_rate",
    "grad_checkpointing",
]


@cache
def described(tagged: str) -> tuple[ResNeXt, Any]:
    """Return our network and timm's without values."""
    with torch.device("meta"):
        return create_model(tagged), timm.create_model(tagged)


def pair(**options: Any) -> tuple[ResNeXt, Any]:  # noqa: ANN401 - of both
    """Return our small network and timm's with the same weights, for training."""
    torch.manual_seed(0)
    theirs: Any = timm.create_model(SMALL, zero_init_last=False, **options)
    with WithoutInitialization():
        ours = create_model(SMALL, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 64, 97, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tagged", TAGGED)
def test_description_equals_timms(tagged: str) -> None:
    ours, theirs = described(tagged)
    expected = {key: value for key, value in theirs.pretrained_cfg.items() if key not in OF_WEIGHTS}
    assert {key: ours.pretrained_cfg[key] for key in expected} == expected
    assert ours.pretrained_cfg.keys() - theirs.pretrained_cfg.keys() == set()
    assert ours.default_cfg is ours.pretrained_cfg
    assert PretrainedCfg(**ours.pretrained_cfg).num_classes == 1000


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("tagged", [name for name in TAGGED if name != "senet154.gluon_in1k"])
def test_attribute_equals_timms(tagged: str, attribute: str) -> None:
    ours, theirs = described(tagged)
    assert getattr(ours, attribute) == getattr(theirs, attribute)


def test_senet_has_gluoncvs_dropout() -> None:
    ours, theirs = described("senet154.gluon_in1k")
    assert (ours.drop_rate, theirs.drop_rate) == (0.2, 0.0)
    assert ours.num_features == theirs.num_features


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("tagged", ["resnet50d.gluon_in1k", "seresnext50_32x4d.gluon_in1k"])
def test_parameters_are_grouped_as_in_timm(tagged: str, *, coarse: bool) -> None:
    """timm's own function makes the groups, for example for layer-wise learning rates."""
    groups = [group_parameters(model, model.group_matcher(coarse)) for model in described(tagged)]
    assert groups[0] == groups[1]
    assert len(groups[0]) == (6 if coarse else 18)


def test_classifier_is_returned_or_named() -> None:
    ours, theirs = described(SMALL)
    assert ours.get_classifier() is ours.fc
    assert ours.get_classifier(name_only=True) == theirs.get_classifier(name_only=True)


@pytest.mark.parametrize("pool", [*POOLS, None])
@pytest.mark.parametrize("num_classes", [5, 0])
def test_classifier_is_reset_as_in_timm(num_classes: int, pool: str | None) -> None:
    ours, theirs = pair()
    ours.eval()
    theirs.eval()
    for model in (ours, theirs):
        model.reset_classifier(num_classes, pool)
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        assert torch.equal(ours(images()), theirs(images()))
    for attribute in ATTRIBUTES:
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert (ours.fc.training, ours.avgpool.training) == (theirs.fc.training, theirs.global_pool.training)


@pytest.mark.parametrize("pool", POOLS)
def test_pool_gives_the_logits_of_timms(pool: str) -> None:
    ours, theirs = pair(global_pool=pool, drop_rate=0.25)
    assert ours.drop_rate == theirs.drop_rate == 0.25
    with torch.inference_mode():
        features = ours.eval().forward_features(images())
        expected = theirs.eval().forward_head(features, pre_logits=True)
        assert torch.equal(ours.forward_head(features, pre_logits=True), expected)
        assert torch.equal(ours(images()), theirs(images()))
        ours.reset_classifier(1000, "avg" if pool != "avg" else "max")
        assert not torch.equal(ours.forward_head(features, pre_logits=True), expected)


def test_dropout_is_that_of_timm_in_training() -> None:
    ours, theirs = pair(drop_rate=0.5)
    outputs = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        outputs.append(model(images()))
    assert torch.equal(*outputs)


def test_network_without_a_pool_returns_the_feature_maps() -> None:
    ours, theirs = pair(global_pool="", num_classes=0)
    with torch.inference_mode():
        output = ours.eval()(images())
        assert output.shape == (2, 512, 2, 4)
        assert torch.equal(output, theirs.eval()(images()))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("", "a network with a head needs a pool; use num_classes=0"),
        ("mean", "expected 'avg', 'max', .*'mean'"),
    ],
)
def test_impossible_pool_is_refused(pool: str, message: str) -> None:
    with torch.device("meta"):
        model = create_model(SMALL)
        with pytest.raises(ValueError, match=f"^global_pool: {message}"):
            model.reset_classifier(10, pool)
        with pytest.raises(ValueError, match=f"^global_pool: {message}"):
            create_model(SMALL, global_pool=pool)


def both(result: list[Tensor] | tuple[Tensor, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Return the last output and the intermediates."""
    assert isinstance(result, tuple)
    return result


@pytest.mark.parametrize("stop_early", [False, True])
@pytest.mark.parametrize("indices", [None, 1, 3, (0, 2), (-2, 1), [3]])
def test_intermediates_equal_timms(indices: Any, *, stop_early: bool) -> None:  # noqa: ANN401 - of several types
    ours, theirs = pair()
    options = {"indices": indices, "stop_early": stop_early}
    with torch.inference_mode():
        last, levels = both(ours.eval().forward_intermediates(images(), **options))
        expected_last, expected = theirs.eval().forward_intermediates(images(), **options)
        only: Any = ours.forward_intermediates(images(), **options, intermediates_only=True)
    assert torch.equal(last, expected_last)
    assert len(levels) == len(expected) == len(only)
    assert all(torch.equal(level, other) for level, other in zip(levels, expected, strict=True))
    assert all(torch.equal(level, other) for level, other in zip(only, expected, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"indices": 6}, IndexError, "expected 1 to 5 levels, found 6"),
        ({"indices": 0}, IndexError, "expected 1 to 5 levels, found 0"),
        ({"indices": (5,)}, IndexError, "out of range"),
        ({"output_fmt": "NLC"}, ValueError, "output_fmt: expected 'NCHW', found 'NLC'"),
    ],
)
def test_impossible_intermediates_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with torch.device("meta"), pytest.raises(error, match=message):
        create_model(SMALL).forward_intermediates(torch.zeros(1, 3, 32, 32), **options)


def trained(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return the gradients and the buffers after a step, and how many values autograd kept."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(images()).square().mean()
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, dict(model.named_buffers()), sum(kept)


def test_checkpointing_keeps_less_and_changes_nothing() -> None:
    plain, theirs = pair(drop_rate=0.1)
    checkpointed, _ = pair(drop_rate=0.1)
    checkpointed.set_grad_checkpointing()
    theirs.set_grad_checkpointing()
    assert checkpointed.grad_checkpointing is theirs.grad_checkpointing is True
    gradients, buffers, kept = trained(plain)
    result, result_buffers, result_kept = trained(checkpointed)
    assert result.keys() == gradients.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(result[name], gradients[name]) for name in gradients)
    assert all(torch.equal(result_buffers[name], buffers[name]) for name in buffers)
    assert result_kept < kept / 2
    assert all(
        module.track_running_stats for module in checkpointed.modules() if isinstance(module, nn.BatchNorm2d)
    )
    _, their_buffers, _ = trained(theirs)  # timm updates the statistics in both computations
    assert not torch.equal(their_buffers["layer1.0.bn1.running_var"], buffers["layer1.0.bn1.running_var"])
    checkpointed.set_grad_checkpointing(enable=False)
    assert trained(checkpointed)[2] == kept


def test_checkpointed_network_is_compiled() -> None:
    config = replace(CONFIGS["gluon_resnet18_v1b"], depths=(1, 1), num_classes=10)
    torch.manual_seed(0)
    plain, model = ResNeXt(config), ResNeXt(config)
    model.load_state_dict(plain.state_dict())
    model.set_grad_checkpointing()
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    for network in (plain, compiled):
        network(images()).square().mean().backward()
    for parameter, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None
        assert expected.grad is not None
        assert torch.allclose(parameter.grad, expected.grad, rtol=1e-4)  # measured: equal
    assert all(map(torch.allclose, model.buffers(), plain.buffers()))


def test_levels_of_the_network_are_those_of_timm() -> None:
    ours, theirs = described("resnet50d.gluon_in1k")
    levels = [
        {**level, "module": "act1" if level["module"] == "relu" else level["module"]}
        for level in ours.feature_info
    ]
    assert levels == theirs.feature_info
