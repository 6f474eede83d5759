"""The recorded names and hashes of GluonCV's models are those of the installed package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mxnet_forks
import pytest

from converter.networks import catalog, gluoncv_models, zoo

WRITER = Path(__file__).with_name("gluon_models.py")


@pytest.fixture(scope="module")
def gluoncv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("models") / "models.json"
    mxnet_forks.run(WRITER, file)
    written: dict[str, Any] = json.loads(file.read_text())
    return written


@pytest.fixture(scope="module")
def installed(gluoncv: dict[str, Any]) -> dict[str, str]:
    models: dict[str, str] = dict.fromkeys(gluoncv["models"], "")
    sha1s: dict[str, str] = gluoncv["sha1s"]
    return models | sha1s


def test_models_of_the_families_are_those_that_gluoncv_builds(gluoncv: dict[str, Any]) -> None:
    assert sorted(zoo.models()) == sorted(gluoncv["models"])
    assert "vgg16_atrous" not in gluoncv["models"]  # a file of parameters


def test_names_and_hashes_equal_gluoncvs(installed: dict[str, str]) -> None:
    assert gluoncv_models.published_sha1s() == installed
    assert gluoncv_models.published_sha1s() != installed | {"resnet50_v1": "0" * 40}


def test_names_are_sorted(installed: dict[str, str]) -> None:
    assert list(gluoncv_models.published_sha1s()) == sorted(installed)


def test_hashes_of_covered_models_equal_gluoncvs(installed: dict[str, str]) -> None:
    models = catalog.models().values()
    assert {model.entry.gluon: model.entry.params_sha1 for model in models} == {
        model.entry.gluon: installed[model.entry.gluon] for model in models
    }
