from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from converter import catalog
from converter.errors import CatalogError
from resnext_torch import CONFIGS

if TYPE_CHECKING:
    from pathlib import Path


def test_the_three_published_resnexts_are_there() -> None:
    assert list(catalog.models()) == [
        "gluon_resnext50_32x4d",
        "gluon_resnext101_32x4d",
        "gluon_resnext101_64x4d",
    ]


def test_every_network_of_the_module_is_in_the_catalog() -> None:
    assert catalog.models().keys() == CONFIGS.keys()


@pytest.mark.parametrize(
    ("name", "parameters", "file"),
    [
        ("gluon_resnext50_32x4d", 25_028_904, "resnext50_32x4d-4ecf62e2.params"),
        ("gluon_resnext101_32x4d", 44_177_704, "resnext101_32x4d-8654ca5d.params"),
        ("gluon_resnext101_64x4d", 83_455_272, "resnext101_64x4d-2f0d1c9d.params"),
    ],
)
def test_figures_are_those_of_gluoncv(name: str, parameters: int, file: str) -> None:
    model = catalog.find(name)
    assert model.parameters == parameters
    assert model.official_file == file
    assert re.fullmatch("[0-9a-f]{40}", model.entry.params_sha1)


def test_a_model_without_a_network_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text('[models.vgg]\ngluon = "vgg"\nparams_sha1 = ""\ntop1 = 0.0\ntop5 = 0.0\n')
    with pytest.raises(CatalogError, match=r"new\.toml: models: resnext_torch has no vgg"):
        catalog._read(table)


def test_a_model_with_a_misspelt_figure_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text('[models.vgg]\ngluon = "vgg"\nparams_sha1 = ""\ntop_1 = 0.0\ntop5 = 0.0\n')
    with pytest.raises(CatalogError, match=r"new\.toml: models: Object "):
        catalog._read(table)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(
        CatalogError, match=r"no model 'gluon_resnext50'; did you mean gluon_resnext50_32x4d\?"
    ):
        catalog.find("gluon_resnext50")


def test_a_name_like_none_brings_them_all() -> None:
    with pytest.raises(CatalogError, match=r"no model 'vgg'; there are gluon_resnext50_32x4d, "):
        catalog.find("vgg")
