from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion
from converter.networks import catalog, figures
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from resnext_torch import create_model
from resnext_torch.data_config import pool_size
from resnext_torch.names import TIMM_ARCHITECTURES

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

# Activations in millions at 224 pixels, from timm's results/model_metadata-in1k.csv.
TIMM_ACTIVATIONS = {
    "gluon_resnet18_v1b": 2.48,
    "gluon_resnet50_v1b": 11.11,
    "gluon_resnext50_32x4d": 14.40,
    "gluon_resnext101_32x4d": 21.23,
}
# One model for each stem, block, shortcut and pool.
VARIED = [
    "gluon_resnet18_v1b",
    "gluon_resnet50_v1e",
    "gluon_seresnext50_32x4d",
    "gluon_senet154",
    "gluon_cifar_resnext29_32x4d",
]


def count_costs(module: nn.Module, size: tuple[int, ...]) -> dict[str, int]:
    """Count from the shapes of weights and outputs: each output element takes one row of weights."""
    totals = {"multiply_adds": 0, "activations": 0}

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")
        totals["multiply_adds"] += output.numel() * weight[0].numel()
        totals["activations"] += output.numel()

    for layer in module.modules():
        if getattr(layer, "weight", None) is not None and layer.get_parameter("weight").ndim > 1:
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module.eval()(torch.empty(1, *size, device="meta"))
    return totals


def computed_costs(model: Model) -> dict[str, int]:
    cost = figures.cost(model)
    return {"multiply_adds": cost.multiply_adds, "activations": cost.activations}


@pytest.mark.parametrize("name", VARIED)
def test_costs_equal_a_plain_count(name: str) -> None:
    model = catalog.find(name)
    with torch.device("meta"):
        module = create_model(name)
    assert computed_costs(model) == count_costs(module, figures.preprocessing(model)["input_size"])
    assert model.parameters == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["gluon_resnext50_32x4d", "gluon_resnet50_v1d", "gluon_seresnext50_32x4d"])
def test_timm_network_costs_the_same(name: str) -> None:
    model = catalog.find(name)
    with torch.device("meta"):
        theirs = timm.create_model(TIMM_ARCHITECTURES[name])
    assert computed_costs(model) == count_costs(theirs, (3, 224, 224))
    assert model.parameters == sum(parameter.numel() for parameter in theirs.parameters())


def test_different_network_has_different_costs() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("resnet50")
    assert computed_costs(catalog.find("gluon_resnet50_v1c")) != count_costs(theirs, (3, 224, 224))


@pytest.mark.parametrize(("name", "millions"), TIMM_ACTIVATIONS.items())
def test_activations_equal_timms_table(name: str, millions: float) -> None:
    assert round(figures.cost(catalog.find(name)).activations / 1e6, 2) == millions


def test_multiply_add_is_two_operations() -> None:
    assert figures.Cost(3, 1).flops == 6


def test_fewer_classes_cost_less(tiny: Model) -> None:
    fewer = figures.cost(tiny.with_config(num_classes=9))
    assert figures.cost(tiny).multiply_adds - fewer.multiply_adds == tiny.config.features
    assert figures.cost(tiny).activations - fewer.activations == 1


def test_file_size_equals_that_of_the_written_file(tmp_path: Path) -> None:
    model = catalog.find("gluon_cifar_resnext29_32x4d")
    request = conversion.ConversionRequest(
        source=ParamsSource(model, seed=0), out=tmp_path, options=ParityOptions("none")
    )
    assert figures.file_bytes(model) == conversion.run(request).artifact.stat().st_size


@pytest.mark.parametrize("name", TIMM_ARCHITECTURES)
def test_preprocessing_equals_timms(name: str) -> None:
    model = catalog.find(name)
    seen = {**figures.preprocessing(model), "pool_size": pool_size(model.config)}
    theirs: Any = timm.get_pretrained_cfg(f"{TIMM_ARCHITECTURES[name]}.gluon_in1k")
    for field in ("input_size", "pool_size", "crop_pct", "mean", "std", "interpolation"):
        assert seen[field] == getattr(theirs, field)


def test_cifar_images_are_not_cropped() -> None:
    model = catalog.find("gluon_cifar_resnext29_16x64d")
    seen = figures.preprocessing(model)
    assert (seen["input_size"], seen["crop_pct"], seen["interpolation"]) == ((3, 32, 32), 1.0, "bicubic")
    assert pool_size(model.config) == (8, 8)


def test_json_list_separates_computed_and_published_figures() -> None:
    models = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    result = {model["model"]: model for model in models}
    assert result.keys() == catalog.models().keys()
    one = result["gluon_resnext50_32x4d"]
    assert one["published"] == {"top1": 79.32, "top5": 94.53}
    assert one["published_source"] == "GluonCV model zoo, ImageNet-1k validation, 224 px centre crop"
    assert one["computed"] == {
        "parameters": 25_028_904,
        "multiply_adds": 4_230_479_872,
        "activations": 14_401_512,
        "file_bytes": 100_417_816,
        "convention": "convolutions and the dense layer only; a multiply-add counts as one",
    }
    assert one["input"] == {"size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    assert result["gluon_resnet50_v1e"]["published_source"] is None


@pytest.mark.parametrize(
    ("arguments", "before", "imported"),
    [([], "", False), (["--json"], "", False), ([], "import torch; ", True)],
)
def test_list_does_not_import_torch(arguments: list[str], before: str, *, imported: bool) -> None:
    program = (
        f"{before}import sys; from converter.cli.app import app; "
        f"app(['list', *{arguments}], standalone_mode=False); print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.split()[-1] == str(imported)
