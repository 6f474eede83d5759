"""Feature levels and parts of a forward equal timm's, and compilers accept the networks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch

from resnext_torch import CONFIGS, Config, Features, ResNeXt, create_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

PAIRS = {
    "gluon_resnext50_32x4d": "resnext50_32x4d",
    "gluon_seresnext50_32x4d": "seresnext50_32x4d",
    "gluon_resnet50_v1d": "resnet50d",
}
KINDS = [*PAIRS, "gluon_resnet18_v1b", "gluon_resnet50_v1s", "gluon_senet154e", "gluon_cifar_resnext29_32x4d"]
ODD = ("gluon_senet154e", (97, 65))  # its unpadded pool gives 24×16 for 49×33


@cache
def pair(name: str) -> tuple[ResNeXt, Any]:
    """Return our network and timm's with the same weights and varied BatchNorms."""
    torch.manual_seed(0)
    ours = create_model(name).eval()
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.7, 1.4)  # type: ignore[arg-type]  # a buffer
    theirs: Any = timm.create_model(PAIRS[name])
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


DILATED = {
    **PAIRS,
    "gluon_resnet18_v1b": "resnet18",
    "gluon_resnet50_v1s": "resnet50s",
    "gluon_senet154": "senet154",
}
TIMMS_POOL = "gluon_resnet50_v1d"  # its dilated shortcuts pool over 2×2; those of GluonCV do not pool
STRIDES = [8, 16]


def dilated_pair(name: str, output_stride: int, **options: Any) -> tuple[Any, Any]:  # noqa: ANN401 - of both
    """Return our dilated network and timm's with the same weights."""
    torch.manual_seed(0)
    ours = create_model(name, output_stride=output_stride, **options).eval()
    with torch.device("meta"):  # gets our weights
        theirs: Any = timm.create_model(DILATED[name], output_stride=output_stride, **options)
    if name == "gluon_senet154":
        theirs.maxpool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)  # see test_ecosystem.py
    state = ours.model.state_dict() if isinstance(ours, Features) else ours.state_dict()
    theirs.load_state_dict({key: state[key] for key in theirs.state_dict()}, assign=True)
    return ours, theirs.eval()


@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("name", [name for name in DILATED if name != TIMMS_POOL])
def test_dilated_network_equals_timms(name: str, output_stride: int) -> None:
    ours, theirs = dilated_pair(name, output_stride)
    with torch.inference_mode():
        features = ours.forward_features(images())
        assert features.shape[2] == 64 // output_stride
        assert torch.equal(features, theirs.forward_features(images()))
        assert torch.equal(ours(images()), theirs(images()))
        with torch.device("meta"):
            undilated = create_model(name).eval()
        undilated.load_state_dict(ours.state_dict(), assign=True)
        assert not torch.equal(ours(images()), undilated(images()))


@pytest.mark.parametrize("output_stride", STRIDES)
def test_dilated_pooled_shortcuts_differ_from_timms_in_the_pool(output_stride: int) -> None:
    ours, theirs = dilated_pair(TIMMS_POOL, output_stride)
    with torch.inference_mode():
        assert not torch.equal(ours(images()), theirs(images()))
        for stage in ("layer3", "layer4"):
            if ours.get_submodule(stage)[1].conv2.dilation != (1, 1):
                theirs.get_submodule(stage)[0].downsample[0] = torch.nn.Identity()
        assert torch.equal(ours(images()), theirs(images()))


def test_another_first_dilation_changes_the_output() -> None:
    ours, theirs = dilated_pair("gluon_resnet18_v1b", 8)
    theirs.layer4[0].conv1.dilation = theirs.layer4[0].conv1.padding = (4, 4)  # 2 in the network
    with torch.inference_mode():
        assert not torch.equal(ours(images()), theirs(images()))


@pytest.mark.parametrize("output_stride", STRIDES)
def test_dilated_levels_equal_timms(output_stride: int) -> None:
    ours, theirs = dilated_pair("gluon_resnet50_v1s", output_stride, features_only=True)
    with torch.inference_mode():
        result, expected = ours(images()), theirs(images())
    assert all(torch.equal(level, other) for level, other in zip(result, expected, strict=True))
    reductions = [level["reduction"] for level in ours.feature_info]
    assert reductions == theirs.feature_info.reduction()
    assert [level.shape[2] for level in result] == [64 // reduction for reduction in reductions]


def test_level_reductions_follow_the_output_stride() -> None:
    strides = {stride: replace(CONFIGS["gluon_resnet18_v1b"], output_stride=stride) for stride in (8, 16, 32)}
    reductions = {stride: [level.reduction for level in config.levels] for stride, config in strides.items()}
    assert reductions == {8: [2, 4, 8, 8, 8], 16: [2, 4, 8, 16, 16], 32: [2, 4, 8, 16, 32]}


def images(size: tuple[int, int] = (64, 97)) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def backbones(name: str, out_indices: tuple[int, ...] | None) -> tuple[Features, Any]:
    ours, theirs = pair(name)
    options: dict[str, Any] = {} if out_indices is None else {"out_indices": out_indices}
    with torch.device("meta"):  # get the weights of the pair
        model = create_model(name, features_only=True, out_indices=out_indices).eval()
        backbone: Any = timm.create_model(PAIRS[name], features_only=True, **options)
    weights = {key: tensor for key, tensor in ours.state_dict().items() if not key.startswith("fc.")}
    model.model.load_state_dict(weights, assign=True)
    backbone.load_state_dict({key: theirs.state_dict()[key] for key in backbone.state_dict()}, assign=True)
    return model, backbone.eval()


@pytest.mark.parametrize("out_indices", [None, (2, 3), (-2, -1), (0, 4)])
@pytest.mark.parametrize("name", PAIRS)
def test_feature_levels_equal_timms_bit_for_bit(name: str, out_indices: tuple[int, ...] | None) -> None:
    ours, theirs = backbones(name, out_indices)
    with torch.inference_mode():
        result, expected = ours(images()), theirs(images())
    assert [level.shape for level in result] == [level.shape for level in expected]
    assert all(torch.equal(level, other) for level, other in zip(result, expected, strict=True))
    info = [(level["num_chs"], level["reduction"]) for level in ours.feature_info]
    assert info == list(zip(theirs.feature_info.channels(), theirs.feature_info.reduction(), strict=True))
    assert [channels for channels, _ in info] == [level.shape[1] for level in result]


def test_changed_weight_changes_its_level_and_later_ones() -> None:
    ours, theirs = backbones("gluon_resnext50_32x4d", None)
    with torch.inference_mode():
        bias = ours.model.get_parameter("layer2.0.bn1.bias") + 0.5  # a copy: the pair is shared
        ours.model.get_submodule("layer2.0.bn1").bias = torch.nn.Parameter(bias)
        result, expected = ours(images()), theirs(images())
    same = [torch.equal(level, other) for level, other in zip(result, expected, strict=True)]
    assert same == [True, True, False, False, False]


def test_levels_are_returned_in_the_requested_order() -> None:
    model = create_model("gluon_resnet18_v1b", features_only=True, out_indices=(3, -5)).eval()
    assert model.out_indices == (3, 0)
    assert [level.shape[1] for level in model(images())] == [256, 64]
    assert [info["module"] for info in model.feature_info] == ["layer3", "relu"]


@pytest.mark.parametrize("index", [5, -6])
def test_out_of_range_level_raises(index: int) -> None:
    with torch.device("meta"), pytest.raises(IndexError, match="out of range"):
        create_model("gluon_resnet18_v1b", features_only=True, out_indices=(index,))


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in KINDS for size in [(64, 64), (97, 65)] if (name, size) != ODD]
)
def test_level_shapes_match_feature_info(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = create_model(name, features_only=True).eval()
        levels = model(torch.zeros(1, 3, *size))
    for level, info in zip(levels, model.feature_info, strict=True):
        expected = [-(-side // info["reduction"]) for side in size]
        assert list(level.shape[1:]) == [info["num_chs"], *expected]


def test_unpadded_pool_rounds_odd_sizes_down() -> None:
    name, size = ODD
    with torch.device("meta"):
        levels = create_model(name, features_only=True).eval()(torch.zeros(1, 3, *size))
    assert [tuple(level.shape[2:]) for level in levels] == [(49, 33), (24, 16), (12, 8), (6, 4), (3, 2)]


@pytest.mark.parametrize("name", PAIRS)
def test_forward_parts_equal_timms_bit_for_bit(name: str) -> None:
    ours, theirs = pair(name)
    with torch.inference_mode():
        features = ours.forward_features(images())
        assert torch.equal(features, theirs.forward_features(images()))
        assert torch.equal(ours.forward_head(features), theirs.forward_head(features))
        before = ours.forward_head(features, pre_logits=True)
        assert torch.equal(before, theirs.forward_head(features, pre_logits=True))
        assert torch.equal(ours(images()), theirs(images()))
        assert not torch.equal(ours(images()), theirs(images() + 1))


def small(name: str) -> ResNeXt:
    """Return a network of that kind with few blocks and groups, in eval mode."""
    config: Config = CONFIGS[name]
    depths = (1, 2, 1, 1)[: len(config.depths)]
    torch.manual_seed(0)
    cardinality = min(config.cardinality, 2)
    return ResNeXt(replace(config, depths=depths, cardinality=cardinality, num_classes=10)).eval()


def test_classifier_can_be_reset() -> None:
    model = small("gluon_seresnext50_32x4d").double()
    model.reset_classifier(3)
    output = model(images().double())
    assert (output.shape, output.dtype) == ((1, 3), torch.float64)
    assert model.config.num_classes == 3
    model.reset_classifier(0)
    assert model(images().double()).shape == (1, model.config.features)


COMPILERS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "fx": lambda model, _: torch.fx.symbolic_trace(model),
    "export": lambda model, batch: torch.export.export(model, (batch,)).module(),
    "compile": lambda model, _: torch.compile(model, backend="aot_eager", fullgraph=True),
}
LIMIT = 1e-5  # relative to the logits' deviation, in float32; measured 0


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", KINDS)
def test_compiled_network_gives_the_same_logits(name: str, compiler: str) -> None:
    model, batch = small(name), images((64, 64))
    torch.compiler.reset()
    with torch.no_grad():
        expected = model(batch)
        compiled = COMPILERS[compiler](model, batch)
        assert (compiled(batch) - expected).abs().max() <= LIMIT * expected.std()
        assert (compiled(batch + 1) - expected).abs().max() > LIMIT * expected.std()
