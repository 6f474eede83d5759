"""Converted files load in torchvision and timm unchanged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from converter.commands import conversion, reverse_conversion
from converter.formats.params import write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.networks.synthetic import random_params
from converter.parity.options import ParityOptions
from converter.targets.building import WithoutInitialization
from converter.testing import assert_parity
from resnext_torch import create_model
from resnext_torch.names import TORCHVISION_ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Relative to the logits' standard deviation, in float64; measured 0 with torchvision, 1e-15 with timm.
LIMIT = 1e-12
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
SHALLOW = (1, 2, 1, 1)  # depths with every kind of block


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that converts seeded parameters of a model, of other depths if given, once."""

    @cache
    def convert(name: str, depths: tuple[int, ...] = ()) -> Path:
        model, out = catalog.find(name), tmp_path_factory.mktemp(name)
        if depths:
            model = replace(model, config=replace(model.config, depths=depths))
        request = conversion.ConversionRequest(
            source=ParamsSource(model, seed=0), out=out, options=ParityOptions("none")
        )
        return conversion.run(request).artifact

    return convert


def empty(make: Callable[..., torch.nn.Module], *arguments: str) -> torch.nn.Module:
    """Return a network without memory for its tensors: random initial weights take seconds."""
    with torch.device("meta"), WithoutInitialization():
        return make(*arguments)


def shorten(model: torch.nn.Module) -> torch.nn.Module:
    """Remove the blocks of each stage that repeat those before them."""
    for number, depth in enumerate(SHALLOW, start=1):
        stage = model.get_submodule(f"layer{number}")
        assert isinstance(stage, torch.nn.Sequential)
        model.set_submodule(f"layer{number}", stage[:depth])
    return model


def logits(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.Tensor:
    model.load_state_dict(state, strict=True, assign=True)
    images = torch.randn(1, 3, 33, 47, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output: torch.Tensor = model.double().eval()(images)
    return output


EQUIVALENTS = [
    *(
        (name, getattr(torchvision.models, architecture))
        for name, architecture in TORCHVISION_ARCHITECTURES.items()
    ),
    ("gluon_resnext50_32x4d", "resnext50_32x4d"),
    ("gluon_resnext101_32x4d", "resnext101_32x4d"),
    ("gluon_resnext101_64x4d", "resnext101_64x4d"),
    ("gluon_seresnext50_32x4d", "seresnext50_32x4d"),
    ("gluon_resnet18_v1b", "resnet18"),
    ("gluon_resnet50_v1b", "resnet50"),
    ("gluon_resnet50_v1c", "resnet50c"),
    ("gluon_resnet50_v1d", "resnet50d"),
    ("gluon_resnet50_v1s", "resnet50s"),
]


@pytest.mark.parametrize(("name", "theirs"), EQUIVALENTS)
def test_converted_file_loads_strictly_and_gives_the_same_logits(
    converted: Callable[..., Path], name: str, theirs: str | Callable[[], torch.nn.Module]
) -> None:
    model = empty(timm.create_model, theirs) if isinstance(theirs, str) else empty(theirs)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == catalog.find(name).shapes
    state = load_file(converted(name, SHALLOW))
    ours = logits(shorten(empty(create_model, name)), state)
    assert (ours - logits(shorten(model), state)).abs().max() <= LIMIT * ours.std()


def test_timm_senet_loads_strictly_and_pools_differently(converted: Callable[..., Path]) -> None:
    state = load_file(converted("gluon_senet154"))
    ours = logits(empty(create_model, "gluon_senet154"), state)
    theirs, theirs_with_ceil_mode = (empty(timm.create_model, "senet154") for _ in range(2))
    theirs_with_ceil_mode.maxpool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
    assert (ours - logits(theirs, state)).abs().max() > 0.1 * ours.std()  # measured at 225 px: 0.33
    assert (ours - logits(theirs_with_ceil_mode, state)).abs().max() <= LIMIT * ours.std()


def test_changed_weight_changes_the_logits(converted: Callable[..., Path]) -> None:
    state = load_file(converted("gluon_resnext50_32x4d"))
    ours = logits(empty(create_model, "gluon_resnext50_32x4d"), state)
    state["layer2.1.bn2.bias"][0] += 1e-3
    theirs = logits(empty(torchvision.models.resnext50_32x4d), state)
    assert (ours - theirs).abs().max() > LIMIT * ours.std()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("gluon_resnext50_32x4d", torchvision.models.resnext50_32x4d),
        ("gluon_resnext50_32x4d", lambda: timm.create_model("resnext50_32x4d")),
        ("gluon_resnet50_v1d", lambda: timm.create_model("resnet50d")),
        ("gluon_seresnext50_32x4d", lambda: timm.create_model("seresnext50_32x4d")),
    ],
    ids=["torchvision", "timm", "timm, pooled shortcuts", "timm, squeeze-and-excitation"],
)
def test_third_party_modules_are_compared_layer_by_layer(
    converted: Callable[..., Path], tmp_path: Path, name: str, make: Callable[[], torch.nn.Module]
) -> None:
    model = catalog.find(name)
    params = tmp_path / "seed0.params"
    with params.open("wb") as stream:
        write_params(stream, random_params(model.mapping, model.shapes, seed=0))
    module = empty(make)
    module.load_state_dict(load_file(converted(name)), assign=True)
    report = assert_parity(name, params, module=module, reference="numpy", sizes=[(33, 47)])
    assert all(len(check["layers"]) >= len(model.mapping.layers) - 1 for check in report["checks"])
    with torch.no_grad():
        module.get_submodule("layer3.1.bn2").eps = 2e-5  # type: ignore[assignment]
    with pytest.raises(AssertionError, match=r"→ layer3\.1\.bn2 \(batchnorm\)(.*\n)*.*suspect    eps: 1e-05"):
        assert_parity(name, params, module=module, reference="numpy", sizes=[(33, 47)], dtypes=["float64"])


@pytest.mark.parametrize(
    ("name", "make", "form"),
    [
        ("gluon_resnext50_32x4d", torchvision.models.resnext50_32x4d, "pth"),
        ("gluon_resnet50_v1d", lambda: timm.create_model("resnet50d"), "safetensors"),
        ("gluon_seresnext50_32x4d", lambda: timm.create_model("seresnext50_32x4d"), "pth"),
    ],
    ids=["torchvision", "timm, safetensors", "timm, squeeze-and-excitation"],
)
def test_third_party_checkpoints_round_trip_through_gluon(
    tmp_path: Path, name: str, make: Callable[[], torch.nn.Module], form: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    state = make().state_dict()
    for tensor in state.values():  # initialised with zeros and ones, which prove nothing
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.0, generator=generator)
    weights = tmp_path / f"theirs.{form}"
    (torch.save if form == "pth" else save_file)(state, weights)
    written = reverse_conversion.run(
        reverse_conversion.ToGluonRequest(
            weights=weights, out=tmp_path / "back.params", options=AGAINST_NUMPY
        )
    )
    assert (written.name, written.parity.proven) == (name, True)
    source = ParamsSource(None, tmp_path / "back.params")
    back = load_file(
        conversion.run(
            conversion.ConversionRequest(source=source, out=tmp_path, options=ParityOptions("none"))
        ).artifact
    )
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items() if tensor.is_floating_point())
