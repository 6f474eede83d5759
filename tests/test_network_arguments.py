"""Dilated networks, other input channels and networks without a head, from conversion to every command."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from symbols import node, symbol
from typer.testing import CliRunner

from converter.choices import Device, Precision
from converter.cli import app
from converter.commands import (
    conversion,
    inspection,
    parity_check,
    publication,
    reverse_conversion,
    verification,
)
from converter.commands.batch import SourceKey, find_conversion
from converter.commands.publication import PublicationRequest
from converter.errors import (
    ArtifactError,
    ClassifierError,
    LabelsError,
    PublicationError,
    ReferenceUnavailableError,
    SymbolError,
    UsageError,
)
from converter.formats import labels
from converter.formats.params import write_params
from converter.networks import catalog, selection
from converter.networks.selection import ParamsSource
from converter.networks.synthetic import random_params
from converter.parity.options import ParityOptions
from converter.publishing import timm_config
from converter.references import gluon
from converter.vision import classifier, evaluation
from converter.vision.classifier import ClassifierOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Unpack

    from converter.dtypes import Array
    from converter.networks.catalog import ConfigChanges, Model

    Write = Callable[[dict[str, Array]], Path]

NAME = "gluon_resnet18_v1b"
TIMM_LIMIT = 1e-5  # relative to the logits' deviation, in float32; measured 1e-6
UNPROVEN = ParityOptions("none")
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write_graph(params: Path, model: Model, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Write the graph of a model beside its parameters."""
    content = symbol(model)
    change(content)
    path = params.with_name("net-symbol.json")
    path.write_text(json.dumps(content))
    return path


def convert(
    source: ParamsSource, out: Path, options: ParityOptions = AGAINST_NUMPY
) -> conversion.ConversionResult:
    return conversion.run(conversion.ConversionRequest(source=source, out=out, options=options))


def arguments(result: conversion.ConversionResult) -> dict[str, int]:
    document: dict[str, Any] = json.loads(result.manifest_file.read_text())
    return dict(document.get("model_args", {}))


# From the graph, or from the user


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("detected", [True, False])
def test_graph_shows_the_output_stride(
    stride: int,
    detected: bool,
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Write,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    params = write(tiny_params)
    write_graph(params, tiny.with_config(output_stride=stride))
    result = convert(ParamsSource(None if detected else tiny, params), out)
    assert arguments(result) == {"output_stride": stride}
    assert result.model.config.output_stride == stride
    assert (result.manifest.parity.proven, result.manifest.parity.definition) == (True, "graph")


def test_undilated_network_records_no_arguments(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    write_graph(params, tiny)
    result = convert(ParamsSource(tiny, params), out)
    assert "model_args" not in json.loads(result.manifest_file.read_text())


def test_dilation_of_a_first_block_that_no_output_stride_has_is_refused(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    def slip(content: Any) -> None:  # noqa: ANN401 - JSON
        node(content, "features.7.0.body.3")["attrs"] |= {"dilate": "(4, 4)", "pad": "(4, 4)"}

    params = write(tiny_params)
    write_graph(params, tiny.with_config(output_stride=8), slip)
    expected = r"features\.7\.0\.body\.3: dilation 4 in the graph, 2 in the model\n  try "
    with pytest.raises(SymbolError, match=expected) as error:
        convert(ParamsSource(tiny, params), out)
    assert "stride" not in str(error.value)
    assert list(out.iterdir()) == []


def test_selected_output_stride_must_be_that_of_the_graph(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    write_graph(params, tiny.with_config(output_stride=8))
    with pytest.raises(SymbolError, match="stride 1 in the graph, 2 in the model"):
        convert(ParamsSource(tiny, params, output_stride=16), out)
    result = convert(ParamsSource(tiny, params, output_stride=8), out)
    assert arguments(result) == {"output_stride": 8}


def test_selected_output_stride_without_a_graph_is_proven_against_the_definition(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    result = convert(ParamsSource(tiny, write(tiny_params), output_stride=16), out)
    assert arguments(result) == {"output_stride": 16}
    assert (result.manifest.parity.proven, result.manifest.parity.definition) == (True, "gluoncv")


@pytest.mark.parametrize(
    ("model", "stride", "message"),
    [
        ("auto", 2, "`output_stride`: expected 4, 8, 16 or 32, found 2"),
        (NAME, 64, f"`output_stride` of {NAME}: expected 8, 16 or 32, found 64"),
        ("gluon_cifar_resnext29_32x4d", 8, "`output_stride` of gluon_cifar_.*: expected 4, found 8"),
    ],
)
def test_output_stride_that_no_network_has_is_a_usage_error(
    model: str, stride: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        selection.select(model, tmp_path / "a.params", None, None, output_stride=stride)


@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_input_channels_are_proven_and_recorded(in_chans: int, out: Path, tmp_path: Path) -> None:
    model = catalog.find(NAME).with_config(in_chans=in_chans, num_classes=10)
    params = tmp_path / "net.params"
    with params.open("wb") as stream:
        write_params(stream, random_params(model.mapping, model.shapes, seed=0))
    result = convert(ParamsSource(None, params), out)
    assert result.model == model
    assert arguments(result) == {"in_chans": in_chans}
    assert create_model(NAME, result.artifact).config == model.config


def test_rounded_weights_of_another_input_are_measured(out: Path) -> None:
    model = catalog.find(NAME).with_config(in_chans=2, output_stride=16)
    request = conversion.ConversionRequest(
        source=ParamsSource(model, seed=0),
        out=out,
        options=UNPROVEN,
        precision=Precision.float16,
    )
    narrowing = conversion.run(request).manifest.narrowing
    assert narrowing is not None
    assert 0 < narrowing.logits.relative < 0.1


# What is made of a converted file


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that converts seeded parameters, unproven; with 0 classes, the backbone."""

    def convert_random(name: str = NAME, **changes: Unpack[ConfigChanges]) -> Path:
        backbone = changes.pop("num_classes", 1) == 0
        source = ParamsSource(catalog.find(name).with_config(**changes), seed=0, backbone=backbone)
        return convert(source, tmp_path_factory.mktemp("converted"), UNPROVEN).artifact

    return convert_random


def test_module_is_rebuilt_from_the_manifest(converted: Callable[..., Path]) -> None:
    file = converted(output_stride=8, in_chans=4, num_classes=0)
    config = create_model(NAME, file).config
    assert (config.output_stride, config.in_chans, config.num_classes) == (8, 4, 0)
    assert create_model(NAME, file.parent, output_stride=32).config.output_stride == 32


def test_dilated_file_is_verified_and_a_changed_argument_fails(converted: Callable[..., Path]) -> None:
    file = converted(output_stride=8, in_chans=4)
    assert verification.verify(file).holds
    manifest = json.loads(file.with_suffix(".json").read_text())
    for changed in ({"output_stride": 8}, {"in_chans": 4, "num_classes": 0, "output_stride": 8}):
        file.with_suffix(".json").write_text(json.dumps({**manifest, "model_args": changed}))
        failures = [check for check in verification.verify(file).checks if check.holds is False]
        assert [check.what for check in failures] == ["tensors"]
        assert "model arguments in its manifest: expected {'in_chans': 4" in failures[0].actual


def test_output_stride_that_the_model_cannot_have_fails(converted: Callable[..., Path]) -> None:
    file = converted("gluon_cifar_resnext29_32x4d")
    manifest = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**manifest, "model_args": {"output_stride": 8}}))
    (failure,) = [check for check in verification.verify(file).checks if check.holds is False]
    assert "output_stride: expected 4, found 8" in failure.actual


def test_file_of_the_same_weights_dilated_is_not_replaced(converted: Callable[..., Path]) -> None:
    file = converted(output_stride=8)
    with pytest.raises(ArtifactError, match="the same weights with the model arguments output_stride=8"):
        convert(ParamsSource(catalog.find(NAME), seed=0), file.parent, UNPROVEN)
    key = SourceKey(file=f"{NAME}.random-0.params", random=True)
    assert find_conversion(file.parent, catalog.find(NAME), key, UNPROVEN) is None
    undilated = converted()
    assert find_conversion(undilated.parent, catalog.find(NAME), key, UNPROVEN) is not None
    with pytest.raises(ArtifactError, match="the same weights with the default model arguments"):
        convert(ParamsSource(catalog.find(NAME), seed=0, output_stride=8), undilated.parent, UNPROVEN)


@pytest.mark.parametrize("changes", [{"output_stride": 8}, {"in_chans": 4}, {"num_classes": 0}])
def test_way_back_is_proven(converted: Callable[..., Path], changes: ConfigChanges, tmp_path: Path) -> None:
    file = converted(**changes)
    request = reverse_conversion.ToGluonRequest(
        weights=file, out=tmp_path / "back.params", options=AGAINST_NUMPY
    )
    result = reverse_conversion.run(request)
    assert result.model == catalog.find(NAME).with_config(**changes)
    had_head = "num_classes" in changes  # then the source has one, and the written file has none
    assert (result.parity.proven, result.is_original) == (True, not had_head)


def test_parity_uses_the_output_stride_of_the_weights(converted: Callable[..., Path], tmp_path: Path) -> None:
    file = converted(output_stride=8)
    source = ParamsSource(catalog.find(NAME), seed=0)
    request = parity_check.ComparisonRequest(source=source, weights=file, options=AGAINST_NUMPY)
    result = parity_check.run(request)
    assert (result.passed, result.loaded.model.config.output_stride) == (True, 8)
    other = replace(request, source=replace(source, output_stride=16))
    with pytest.raises(UsageError, match=r"`output_stride`: expected 8, as in the manifest of .*, found 16"):
        parity_check.run(other)
    moved = file.rename(tmp_path / "moved.safetensors")  # without its manifest
    result = parity_check.run(replace(request, weights=moved))
    assert result.loaded.model.config.output_stride == 32


def test_comparison_with_a_module_of_another_output_stride_fails() -> None:
    module = create_model(NAME, output_stride=8)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.7, 1.4)
    request = parity_check.ComparisonRequest(
        source=ParamsSource(catalog.find(NAME), seed=0), module=module, options=AGAINST_NUMPY
    )
    undilated = parity_check.run(request).proof.checks[0]
    dilated = parity_check.run(replace(request, source=replace(request.source, output_stride=8)))
    rows = {row.layer.target: row for row in undilated.rows}
    assert rows["layer3.0.conv1"].settings == (("stride", 2, 1),)
    assert not any(row.settings for row in dilated.proof.checks[0].rows)


def load(file: Path) -> classifier.Classifier:
    return classifier.load(ClassifierOptions(file, device=Device.cpu))


def test_dilated_classifier_is_loaded_dilated_and_has_no_published_accuracy(
    converted: Callable[..., Path],
) -> None:
    dilated, undilated = load(converted(output_stride=8)), load(converted())
    assert dilated.model.config.output_stride == 8
    batch = torch.randn(1, 3, 64, 64)
    assert not torch.equal(dilated.logits(batch), undilated.logits(batch))
    assert evaluation.published(dilated) is None
    assert evaluation.published(undilated) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, r"has no head, so it predicts no classes\n.*features_only=True"),
        ({"in_chans": 4}, r"expects inputs of 4 channels, and images have 3\n.*create_model"),
    ],
)
def test_network_that_does_not_classify_images_is_refused(
    converted: Callable[..., Path], changes: ConfigChanges, message: str, tmp_path: Path
) -> None:
    file = converted(**changes)
    with pytest.raises(ClassifierError, match=message):
        load(file)
    request = PublicationRequest(
        files=(file,), folder=tmp_path / "hub", allow_random=True, allow_unproven=True
    )
    with pytest.raises(PublicationError, match="a model card describes a classifier of RGB images"):
        publication.run(request)


def publish(file: Path, folder: Path) -> Path:
    request = PublicationRequest(files=(file,), folder=folder, allow_random=True, allow_unproven=True)
    return publication.run(request)[0].folder


def test_timm_loads_a_published_dilated_network_dilated(
    converted: Callable[..., Path], tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    folder = publish(converted(output_stride=8), tmp_path / "hub")
    assert verification.verify(folder).holds
    ours = create_model(NAME, folder).eval()
    assert ours.config.output_stride == 8
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 97)
    with torch.inference_mode():
        logits, expected = ours(images), theirs(images)
        assert (logits - expected).abs().max() <= TIMM_LIMIT * expected.std()
        undilated = create_model(NAME, folder, output_stride=32).eval()
        assert (undilated(images) - expected).abs().max() > 0.01 * expected.std()
    card = (folder / "README.md").read_text()
    assert "The network is dilated: its output stride is 8." in card
    assert "GluonCV published no accuracy for this network" in card


def test_dilated_network_that_timm_dilates_otherwise_has_no_architecture() -> None:
    model = catalog.find("gluon_resnet50_v1d")
    assert "architecture" in timm_config.document(model, None)
    dilated = timm_config.document(model.with_config(output_stride=8), None)
    assert "architecture" not in dilated
    assert dilated["model_args"] == {"output_stride": 8}


# On the command line


def test_option_is_printed_and_recorded(out: Path) -> None:
    options = ["--random", "0", "--reference", "none", "--output-stride", "8"]
    result = CliRunner().invoke(app.convert_app, [NAME, str(out), *options])
    assert result.exit_code == 0, result.stderr
    assert "width 64, 1000 classes, output stride 8" in " ".join(result.stdout.split())
    (manifest,) = out.glob("*.json")
    assert json.loads(manifest.read_text())["model_args"] == {"output_stride": 8}


@pytest.mark.parametrize("stride", ["4", "24"])
def test_option_accepts_no_other_number(stride: str, out: Path) -> None:
    result = CliRunner().invoke(app.convert_app, [NAME, str(out), "--output-stride", stride])
    assert result.exit_code == 2


def test_labels_of_a_network_without_a_head_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n")
    with pytest.raises(LabelsError, match="expected 0 class names"):
        labels.read(tmp_path / "names.txt", 0)


# What GluonCV has


@pytest.mark.parametrize(("name", "stride"), [(NAME, 8), (NAME, 32), ("gluon_cifar_resnext29_32x4d", 4)])
def test_gluoncv_has_the_output_stride(name: str, stride: int) -> None:
    gluon.require_network(catalog.find(name).with_config(output_stride=stride))


@pytest.mark.parametrize(
    ("name", "stride", "available"),
    [(NAME, 16, "8 or 32"), ("gluon_resnext50_32x4d", 8, "32"), ("gluon_senet154", 16, "32")],
)
def test_output_stride_that_gluoncv_lacks_names_the_other_reference(
    name: str, stride: int, available: str
) -> None:
    message = f"with output stride {available} only, not {stride}\n  --reference numpy"
    with pytest.raises(ReferenceUnavailableError, match=message):
        gluon.require_network(catalog.find(name).with_config(output_stride=stride))


def test_inspection_shows_the_output_stride_of_the_graph(
    tiny: Model, tiny_params: dict[str, Array], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    params = write(tiny_params)
    write_graph(params, tiny.with_config(output_stride=16))
    (model,) = inspection.inspect(params).models
    assert model.config.output_stride == 16
