"""Names of networks in Python: GluonCV's and timm's, suggestions, and the list of names."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from timm.models import _registry

import resnext_torch
from converter.errors import CatalogError
from converter.networks import catalog
from resnext_torch import create_model, list_models, names

FILTERS: list[Any] = ["*50*", "*resnext101*", ["*v1d", "*senet*"], "*RESNET*", "resnet", "*[cd]"]


def test_aliases_are_the_names_in_the_catalog() -> None:
    assert {model.entry.gluon: name for name, model in catalog.models().items()} == names.GLUON_NAMES


def test_unpublished_networks_are_those_without_published_parameters() -> None:
    unpublished = {name for name, model in catalog.models().items() if not model.entry.params_sha1}
    assert unpublished == names.UNPUBLISHED


@pytest.mark.parametrize("alias", ["resnet50_v1d", "gluon_resnet50_v1d", "resnet50d.gluon_in1k"])
def test_network_is_created_by_each_of_its_names(alias: str) -> None:
    with torch.device("meta"):
        assert create_model(alias).config == resnext_torch.CONFIGS["gluon_resnet50_v1d"]


def test_tagged_names_are_timms_with_gluoncvs_weights() -> None:
    theirs = timm.list_models("*.gluon_in1k", module="resnet", pretrained=True)
    assert sorted(names.TAGGED) == sorted(theirs)


def test_tagged_names_replace_ours_in_timm() -> None:
    """timm's deprecated names, which it still maps to the current ones, are ours."""
    deprecated = _registry._deprecated_models
    assert {name: deprecated[name] for name in names.TAGGED.values()} == {
        name: tagged for tagged, name in names.TAGGED.items()
    }


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet50", "gluon_resnet50_v1b"),
        ("resnet50d", "gluon_resnet50_v1d"),
        ("resnet152s", "gluon_resnet152_v1s"),
        ("resnext50", "gluon_resnext50_32x4d"),
        ("senet154", "gluon_senet154"),
        ("resnet", "gluon_resnet18_v1b"),
        ("resnet50_v1bb", "gluon_resnet50_v1b"),
    ],
)
def test_python_and_catalog_suggest_the_same_network(name: str, suggestion: str) -> None:
    with pytest.raises(KeyError, match=rf"unknown network '{name}'; did you mean {suggestion}\?"):
        create_model(name)
    with pytest.raises(CatalogError, match=rf"unknown model '{name}'; did you mean {suggestion}\?$"):
        catalog.find(name)


@pytest.mark.parametrize("name", ["resnet50_v1", "resnet10", "resnet", "gluon_resnet50_v1d"])
def test_incomplete_name_ends_in_front_of_a_number_or_an_underscore(name: str) -> None:
    plain = name.removeprefix("gluon_")
    assert (names.complete(plain, names.GLUON_NAMES) is not None) == (name == "resnet")


@pytest.mark.parametrize("filter_", FILTERS)
def test_filters_select_the_names_that_timms_do(filter_: Any) -> None:  # noqa: ANN401 - a pattern or several
    """timm's registry is filtered by the same patterns, with the names that both have."""
    shared = {theirs: ours for ours, theirs in names.TIMM_ARCHITECTURES.items()}
    pattern = [filter_] if isinstance(filter_, str) else filter_
    expected = {name for name in timm.list_models(filter_) if name in shared}
    result = {theirs for theirs in shared if names._matches(theirs, pattern)}
    assert result == expected


def test_list_is_filtered_by_patterns_and_published_weights() -> None:
    assert list_models() == list(resnext_torch.CONFIGS)
    assert "gluon_resnet50_v1e" in list_models("*50*")
    pretrained = list_models("*50*", pretrained=True)
    assert pretrained == [name for name in list_models("*50*") if name != "gluon_resnet50_v1e"]
    assert list_models("*50*", exclude_filters=["*v1*", "*se*"]) == ["gluon_resnext50_32x4d"]
    assert list_models(["*senet154", "*29*"]) == [
        "gluon_senet154",
        "gluon_cifar_resnext29_32x4d",
        "gluon_cifar_resnext29_16x64d",
    ]
    assert list_models("vgg*") == []


def test_dir_lists_the_api_and_the_attributes_of_a_module() -> None:
    program = "import resnext_torch; print(*dir(resnext_torch))"
    listed = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert listed >= {*resnext_torch.__all__, "__doc__", "__file__", "__name__"}
