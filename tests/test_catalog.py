from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from converter.errors import CatalogError, UsageError
from converter.networks import catalog
from resnext_torch import CONFIGS

if TYPE_CHECKING:
    from pathlib import Path


# GluonCV's name: trainable parameters, and the hash in the published file's name. From its model store.
PUBLISHED = {
    "resnext50_32x4d": (25_028_904, "4ecf62e2"),
    "resnext101_32x4d": (44_177_704, "8654ca5d"),
    "resnext101_64x4d": (83_455_272, "2f0d1c9d"),
    "se_resnext50_32x4d": (27_559_896, "7906e0e1"),
    "se_resnext101_32x4d": (48_955_416, "688e2389"),
    "se_resnext101_64x4d": (88_232_984, "11c50114"),
    "senet_154": (115_088_984, "b5538ef1"),
    "resnet18_v1b": (11_689_512, "2d9d980c"),
    "resnet34_v1b": (21_797_672, "8e16b848"),
    "resnet50_v1b": (25_557_032, "0ecdba34"),
    "resnet101_v1b": (44_549_160, "a455932a"),
    "resnet152_v1b": (60_192_808, "a5a61ee1"),
    "resnet50_v1c": (25_576_264, "2a4e0708"),
    "resnet101_v1c": (44_568_392, "064858f2"),
    "resnet152_v1c": (60_212_040, "75babab6"),
    "resnet50_v1d": (25_576_264, "117a384e"),
    "resnet101_v1d": (44_568_392, "1b2b825f"),
    "resnet152_v1d": (60_212_040, "cddbc86f"),
    "resnet50_v1s": (25_680_808, "25a187fa"),
    "resnet101_v1s": (44_672_936, "bd93a83c"),
    "resnet152_v1s": (60_316_584, "cf74621d"),
}


def test_catalog_holds_every_network() -> None:
    assert catalog.models().keys() == CONFIGS.keys()
    assert PUBLISHED.keys() <= {model.entry.gluon for model in catalog.models().values()}


@pytest.mark.parametrize("gluon", PUBLISHED)
def test_figures_equal_gluoncvs(gluon: str) -> None:
    parameters, digits = PUBLISHED[gluon]
    model = catalog.find(gluon)
    assert model.parameters == parameters
    assert model.official_file == f"{gluon}-{digits}.params"
    assert re.fullmatch("[0-9a-f]{40}", model.entry.params_sha1)


def test_model_is_found_by_either_name() -> None:
    assert catalog.find("gluon_senet154") == catalog.find("senet_154")


def test_network_without_a_head_has_no_tensor_and_no_layer_of_it() -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    headless = model.with_config(num_classes=0)
    assert [tensor.target for tensor in model.mapping.tensors[-2:]] == ["fc.weight", "fc.bias"]
    assert headless.mapping.tensors == model.mapping.tensors[:-2]
    assert headless.mapping.layers == model.mapping.layers[:-1]
    assert headless.mapping.layers[-1].target == "avgpool"
    assert model.shapes.keys() - headless.shapes.keys() == {"fc.weight", "fc.bias"}
    assert headless.parameters == model.parameters - 2049 * 1000


def test_input_channels_change_the_first_convolution_only() -> None:
    model = catalog.find("gluon_resnet50_v1s")
    changed = dict(model.with_config(in_chans=4).shapes.items() - model.shapes.items())
    assert changed == {"conv1.0.weight": (64, 4, 3, 3)}


@pytest.mark.parametrize(
    ("changes", "arguments", "text"),
    [
        ({}, {}, "1000 classes"),
        ({"num_classes": 7}, {}, "7 classes"),
        ({"num_classes": 0}, {"num_classes": 0}, "no head"),
        ({"in_chans": 1}, {"in_chans": 1}, "1000 classes, 1 input channel"),
        ({"output_stride": 8}, {"output_stride": 8}, "1000 classes, output stride 8"),
    ],
)
def test_arguments_differ_from_the_default_only(
    changes: catalog.ConfigChanges, arguments: dict[str, int], text: str
) -> None:
    model = catalog.find("gluon_resnet18_v1b").with_config(**changes)
    assert model.arguments == arguments
    assert str(model) == f"gluon_resnet18_v1b: blocks 2-2-2-2, cardinality 1, width 64, {text}"


@pytest.mark.parametrize(("name", "stride"), [("gluon_resnet18_v1b", 4), ("gluon_cifar_resnext29_32x4d", 8)])
def test_output_stride_that_the_network_cannot_have_is_refused(name: str, stride: int) -> None:
    with pytest.raises(UsageError, match=rf"{name}: output_stride: expected .*, found {stride}"):
        catalog.find(name).with_config(output_stride=stride)


def test_names_and_hashes_are_unique() -> None:
    models = catalog.models().values()
    hashes = [model.entry.params_sha1 for model in models if model.entry.params_sha1]
    assert len(set(hashes)) == len(hashes)
    assert len({model.entry.gluon for model in models} | {model.name for model in models}) == 2 * len(models)


def test_model_without_a_network_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text('[models.vgg]\ngluon = "vgg"\nlayout = "plain"\ntop1 = 0.0\ntop5 = 0.0\n')
    with pytest.raises(CatalogError, match=r"new\.toml: models: not in resnext_torch: vgg"):
        catalog._read(table)


def test_misspelt_figure_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text('[models.vgg]\ngluon = "vgg"\nlayout = "plain"\ntop_1 = 0.0\ntop5 = 0.0\n')
    with pytest.raises(CatalogError, match=r"new\.toml: models: Object "):
        catalog._read(table)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        CatalogError, match=r"unknown model 'gluon_resnext50'; did you mean gluon_resnext50_32x4d\?"
    ):
        catalog.find("gluon_resnext50")


def test_typo_suggests_the_most_similar_name() -> None:
    with pytest.raises(CatalogError, match=r"did you mean gluon_resnext101_64x4d\?"):
        catalog.find("gluon_resnxt101_64x4d")


def test_unrelated_name_refers_to_the_list() -> None:
    with pytest.raises(CatalogError, match=r"^unknown model 'vgg'; gluon2torch list shows the models$"):
        catalog.find("vgg")
