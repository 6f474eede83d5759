"""Names of models that are unknown, not covered or misspelt, and published files of such models."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion, inspection, listing
from converter.errors import CatalogError, DialectError, SourceError
from converter.networks import catalog, gluoncv_models
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array

    Write = Callable[[dict[str, Array]], Path]

RECORDED = "is a GluonCV network that is converted from its recorded graph: convert"


@pytest.mark.parametrize(
    "name", ["resnet50_v1", "mobilenet1.0", "resnet18_v1b_0.89", "resnet50_v2", "ssd_512_resnet50_v1_voc"]
)
@pytest.mark.parametrize("prefix", ["", "gluon_"])
def test_name_in_gluoncv_only_is_explained(prefix: str, name: str) -> None:
    with pytest.raises(CatalogError, match=f"^{re.escape(f'{name} {RECORDED} {name} OUT, or ')}"):
        catalog.find(prefix + name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mobilenet1.0_int8", "cannot be converted by its name: has int8 weights, which are not supported"),
        ("hrnet_w18_cls", "name: published weights of the network whose name ends in _c"),
        ("hrnet_w48_s", "by its name: its operators cannot be converted: _contrib_BilinearResize2D"),
    ],
)
def test_reason_why_a_network_is_not_converted_is_named(name: str, reason: str) -> None:
    with pytest.raises(CatalogError, match=f"^{re.escape(name)} is a GluonCV network .*{re.escape(reason)}"):
        catalog.find(name)


@pytest.mark.parametrize("name", [*gluoncv_models.published_sha1s()])
def test_no_correct_name_is_answered_with_another_network(name: str) -> None:
    try:
        assert catalog.find(name).entry.gluon == name
    except CatalogError as error:
        assert str(error).startswith(f"{name} is a GluonCV network ")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet", "gluon_resnet18_v1b"),
        ("resnet18", "gluon_resnet18_v1b"),
        ("resnet50", "gluon_resnet50_v1b"),
        ("gluon_resnet152", "gluon_resnet152_v1b"),
        ("resnext50", "gluon_resnext50_32x4d"),
        ("seresnext50_32x4d", "gluon_seresnext50_32x4d"),
        ("gluon_se_resnext50_32x4d", "gluon_seresnext50_32x4d"),
        ("senet154", "gluon_senet154"),
        ("resnet50v1b", "gluon_resnet50_v1b"),
        ("ResNet50_V1b", "gluon_resnet50_v1b"),
        ("resnet50_v1bb", "gluon_resnet50_v1b"),
    ],
)
def test_incomplete_or_misspelt_name_is_corrected(name: str, suggestion: str) -> None:
    with pytest.raises(CatalogError, match=rf"^unknown model '{name}'; did you mean {suggestion}\?$"):
        catalog.find(name)


def test_misspelt_name_in_gluoncv_only_is_corrected() -> None:
    with pytest.raises(CatalogError, match=r"unknown model 'mobilnet1\.0'; did you mean mobilenet1\.0\?$"):
        catalog.find("mobilnet1.0")


@pytest.mark.parametrize(
    "name",
    [
        "resnet201",
        "resnet10",
        "resnext50_3",
        "r",
        "s",
        "resnet50_v3",
        "resnext50_32x8d",
        "efficientnet_b0",
        "",
    ],
)
def test_name_with_other_numbers_is_no_misspelling(name: str) -> None:
    with pytest.raises(CatalogError, match=f"^unknown model '{name}'; gluon2torch list shows"):
        catalog.find(name)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("GoogLeNet", "googlenet"),
        ("MobileNet1.0", "mobilenet1.0"),
        ("ResNet50_v1d", "gluon_resnet50_v1d"),
        ("yolo3_DarkNet53_coco", "yolo3_darknet53_coco"),
    ],
)
def test_name_in_capitals_is_suggested_in_lower_case(name: str, suggestion: str) -> None:
    for find in (catalog.find, listing.select):
        with pytest.raises(CatalogError, match=rf"^unknown model '{name}'; did you mean {suggestion}\?$"):
            find(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gluon_resnext101_64x4", r"see list_models\(\)"),
        ("resnxt101_64x4d", r"did you mean gluon_resnext101_64x4d\?"),
        ("resnet50_v1", r"see list_models\(\)"),
        ("resnet50_v1bb", r"did you mean gluon_resnet50_v1b\?"),
        ("resnet50_v2", r"see list_models\(\)"),
        ("GoogLeNet", r"see list_models\(\), or gluon2torch convert googlenet OUT \(--target timm"),
    ],
)
def test_create_model_suggests_only_names_with_the_same_numbers(name: str, hint: str) -> None:
    with pytest.raises(KeyError, match=f"unknown network '{name}'; {hint}"):
        create_model(name)


@pytest.fixture
def other_network(write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of another network, whose SHA-1 is registered as that of mobilenet1.0."""
    path = write({"mobilenet0_relu6_weight": np.ones(3, np.float32)})
    sha1 = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    published = gluoncv_models.published_sha1s() | {"mobilenet1.0": sha1}
    monkeypatch.setattr(gluoncv_models, "published_sha1s", lambda: published)
    return path


@pytest.mark.parametrize("name", ["auto", "gluon_resnet50_v1b"])
def test_published_file_of_another_network_is_named(name: str, other_network: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"holiday\.params: mobilenet1\.0 {RECORDED} mobilenet1\.0 OUT"):
        conversion.convert(name, tmp_path / "out", params=other_network)
    with other_network.open("r+b") as stream:  # negative control: another file is only unknown
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(DialectError, match="these names follow no supported naming style"):
        conversion.convert(name, tmp_path / "out", params=other_network)


def test_inspection_names_a_published_network_that_is_in_gluoncv_only(other_network: Path) -> None:
    assert inspection.inspect(other_network, full=True).official == "mobilenet1.0"
    text = CliRunner().invoke(app, ["inspect", str(other_network), "--full"]).stdout
    assert text.startswith(f"mobilenet1.0 {RECORDED}")
    assert f"model      mobilenet1.0 {RECORDED}" in text
    assert "published by GluonCV as mobilenet1.0\n" in text
    assert CliRunner().invoke(app, ["inspect", str(other_network)]).stdout.startswith("mobilenet1.0 ")


def test_large_file_of_another_model_is_not_read_without_full(
    other_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MAX_HASHED", other_network.stat().st_size - 1)
    result = inspection.inspect(other_network)
    assert (result.official, result.sha1) == (None, None)
    assert "closest match: gluon_" in CliRunner().invoke(app, ["inspect", str(other_network)]).stdout


def test_published_file_of_a_native_model_is_not_reported() -> None:
    model = catalog.find("gluon_resnet50_v1b")
    assert gluoncv_models.published_name(model.entry.params_sha1) == "resnet50_v1b"
    assert catalog.published_not_native(model.entry.params_sha1) is None
    assert catalog.published_not_native("") is None
