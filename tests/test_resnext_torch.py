from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import resnext_torch
from resnext_torch import CONFIGS, ResNeXt, create_model, list_models, state_spec

if TYPE_CHECKING:
    from converter.networks.catalog import Model

FOLDER = Path(resnext_torch.__file__).parent


@pytest.mark.parametrize("name", CONFIGS)
def test_state_spec_equals_the_modules_state(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    state = [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
    assert state == [(spec.name, spec.shape) for spec in state_spec(CONFIGS[name])]
    trainable = [key for key, _ in model.named_parameters()]
    assert trainable == [spec.name for spec in state_spec(CONFIGS[name]) if spec.trainable]


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (32, 32)])
def test_any_input_size_gives_logits(tiny: Model, size: tuple[int, int]) -> None:
    model = ResNeXt(tiny.config).eval()
    assert model(torch.zeros(2, 3, *size)).shape == (2, 10)


def test_gradients_reach_every_parameter(tiny: Model) -> None:
    torch.manual_seed(0)
    model = ResNeXt(tiny.config)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(
        parameter.grad.abs().sum() > 0 for parameter in model.parameters() if parameter.grad is not None
    )
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_models_are_created_by_name() -> None:
    assert list_models() == list(CONFIGS)
    with torch.device("meta"):
        assert create_model("gluon_resnext50_32x4d", num_classes=7).fc.weight.shape == (7, 2048)
    with pytest.raises(KeyError, match="vgg"):
        create_model("vgg")


def test_unknown_attribute_is_named() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'ResNet'"):
        _ = resnext_torch.ResNet


def test_package_works_when_vendored_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "vendored", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in {"converter", "resnext_torch"}]:
        monkeypatch.setitem(sys.modules, name, None)  # importing one fails
    vendored = importlib.import_module("vendored")
    assert vendored.create_model("gluon_resnext50_32x4d").fc.in_features == 2048
    for name in [name for name in sys.modules if name.partition(".")[0] == "vendored"]:
        del sys.modules[name]


def test_configs_do_not_import_torch() -> None:
    program = "import sys, resnext_torch; resnext_torch.CONFIGS; print('torch' in sys.modules)"
    printed = subprocess.check_output([sys.executable, "-c", program], cwd=FOLDER.parent, text=True)
    assert printed == "False\n"
