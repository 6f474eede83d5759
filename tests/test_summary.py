"""`summary`: shapes, parameters and multiply-adds of every layer, against torch's own count of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import converter
from converter.cli.app import app
from converter.errors import CatalogError, UsageError
from resnext_torch import create_model

if TYPE_CHECKING:
    from torch import nn

    from converter.commands.summary import NetworkSummary

FLOPS_PER_MULTIPLY_ADD = 2  # of torch's counter
PUBLISHED = (
    4.1e9  # multiply-adds of ResNet-50 with strides in its 3×3 layers, at 224 pixels (torchvision, timm)
)
NAMES = ["gluon_resnet50_v1b", "gluon_seresnext50_32x4d", "gluon_senet154", "gluon_cifar_resnext29_32x4d"]


def run(module: nn.Module, size: tuple[int, ...]) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Run a module without values; return torch's FLOPs and the shape of every module's output."""
    shapes = {}

    def record(name: str, output: torch.Tensor) -> None:
        shapes[name] = tuple(output.shape[1:])

    for name, layer in module.named_modules():
        layer.register_forward_hook(lambda _, __, output, name=name: record(name, output))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.empty(1, *size, device="meta"))
    return counter.get_total_flops(), shapes


def check(result: NetworkSummary, module: nn.Module) -> None:
    flops, shapes = run(module, result.input)
    assert result.multiply_adds * FLOPS_PER_MULTIPLY_ADD == flops
    assert {layer.name: layer.shape for layer in result.layers} == {
        layer.name: shapes[layer.name] for layer in result.layers
    }
    own = {name: list(layer.parameters(recurse=False)) for name, layer in module.named_modules()}
    counts = {layer.name: sum(map(torch.numel, own[layer.name])) for layer in result.layers}
    assert {layer.name: layer.parameters for layer in result.layers} == counts
    assert sum(counts.values()) == result.parameters


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_a_run(name: str) -> None:
    with torch.device("meta"):
        check(converter.summary(name), create_model(name))


def test_size_stride_and_backbone_are_those_of_a_run() -> None:
    with torch.device("meta"):
        module = create_model("gluon_resnet50_v1d", output_stride=8, num_classes=0)
    result = converter.summary("gluon_resnet50_v1d", size=(97, 131), output_stride=8, backbone=True)
    assert result.input == (3, 97, 131)
    check(result, module)


def test_resnet50_costs_what_is_published() -> None:
    assert converter.summary("gluon_resnet50_v1b").multiply_adds == pytest.approx(PUBLISHED, rel=0.01)


def test_other_networks_do_not_match() -> None:
    with torch.device("meta"), pytest.raises(AssertionError):
        check(converter.summary("gluon_resnet50_v1b"), create_model("gluon_resnet50_v1d"))


def test_unknown_models_and_sizes_are_refused() -> None:
    with pytest.raises(CatalogError, match="unknown model 'resnet50_v9'"):
        converter.summary("resnet50_v9")
    with pytest.raises(UsageError, match="expected 32 to 2048 pixels, found 8"):
        converter.summary("gluon_resnet50_v1b", size=8)
    with pytest.raises(UsageError, match="expected 4, found 8"):
        converter.summary("gluon_cifar_resnext29_32x4d", output_stride=8)


def test_table_fits_into_80_columns() -> None:
    result = CliRunner().invoke(app, ["summary", "gluon_senet154"], env={"COLUMNS": "80"})
    *table, total, counted, following = result.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert table[3].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert table[5].split() == ["conv1.0", "conv", "64×112×112", "1,728", "21,676,032"]
    assert total.startswith("total   115,088,984 parameters, ")
    assert counted.startswith("counted convolutions and the dense layer only")
    assert following == "next    convert gluon_senet154 OUT"


def test_json_is_the_result() -> None:
    result = CliRunner().invoke(app, ["summary", "gluon_resnet18_v1b", "--size", "64x96", "--json"])
    document = json.loads(result.stdout)
    assert (document["model"], document["input"]) == ("gluon_resnet18_v1b", [3, 64, 96])
    assert document["layers"][-1] == {
        "name": "fc",
        "source": "fc",
        "kind": "dense",
        "shape": [1000],
        "parameters": 513000,
        "multiply_adds": 512000,
    }
