"""Trained weights get a manifest that every command accepts, and that claims only what is known."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import converter
from converter.cli.app import app
from converter.commands import verification
from converter.errors import ArtifactError, ConversionError, MappingError, UsageError
from converter.manifests import artifact_checks, converted_file, schema
from converter.manifests.schema import TrainedManifest
from converter.networks import catalog
from converter.parity import json_report, report
from converter.publishing import card, configuration
from converter.vision import classifier
from resnext_torch import create_model, resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Content = dict[str, Any]
    Edit = Callable[[Callable[[Content], object]], None]

NAME, OTHER = "gluon_cifar_resnext29_32x4d", "gluon_cifar_resnext29_16x64d"
LABELS = ("a cat", "a dog", "<neither>")
METRICS = {"epoch": 3, "train_loss": 0.1, "loss": 0.25, "top1": 87.5, "top5": 100.0, "images": 24}
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.25, 0.2)
SIZE = 48
PTH = {"file": "model.pth", "sha256": "0" * 64, "bytes": 1}
UNPROVEN = converter.ParityOptions("none")
FAST = converter.ParityOptions("numpy", sizes=[33], dtypes=["float32"])


@dataclass(frozen=True)
class Trained:
    """The folder of a training run, and the converted file that it began with."""

    out: Path
    base: Path


def save(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file(state, path, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return weights with another head, from a base whose manifest says proven and has a normalization."""
    folder = tmp_path_factory.mktemp("trained")
    made = converter.convert(NAME, folder / "random", random=0, options=FAST)
    base = folder / "base" / made.artifact.name.replace(".random", "")
    base.parent.mkdir()
    shutil.copyfile(made.artifact, base)
    document = json.loads(made.artifact.with_suffix(".json").read_text().replace(".random-", "-"))
    document["source"]["preprocessing"] = {"mean": MEAN, "std": STD}
    base.with_suffix(".json").write_text(json.dumps(document))
    torch.manual_seed(0)
    state = create_model(weights=base, num_classes=len(LABELS)).state_dict()
    out = folder / "out"
    save(state, out / "model.safetensors")
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS))
    (out / "checkpoint-003").mkdir()
    (out / "checkpoint-003" / "model.safetensors").write_text("a checkpoint")
    converter.record_training(out, metrics=METRICS, base=base, labels=LABELS, size=SIZE)
    return Trained(out, base)


@pytest.fixture(scope="session")
def published(original: Trained) -> Path:
    (folder,) = converter.publish(original.out, original.out.parent / "published")
    return folder.folder


@pytest.fixture
def trained(original: Trained, tmp_path: Path) -> Trained:
    """Return a copy that a test may damage."""
    return Trained(shutil.copytree(original.out, tmp_path / "out"), original.base)


@pytest.fixture
def edit(trained: Trained) -> Edit:
    """Return a function that applies a change to the manifest."""
    path = trained.out / "model.json"

    def apply(change: Callable[[Content], object]) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def failing(path: Path) -> set[tuple[str, str]]:
    return {(check.place, check.what) for check in converter.verify(path).checks if check.holds is False}


def read(out: Path) -> TrainedManifest:
    manifest, _ = schema.read_any(out / "model.json")
    assert isinstance(manifest, TrainedManifest)
    return manifest


def test_manifest_has_the_base_and_the_metrics(original: Trained) -> None:
    manifest = read(original.out)
    training, base = manifest.training, manifest.training.base
    assert (manifest.model, manifest.labels, training.classes) == (NAME, LABELS, 3)
    assert base is not None
    assert base.file == original.base.name
    assert base.sha256 == hashlib.sha256(original.base.read_bytes()).hexdigest()
    assert (base.proven, base.official, base.random, base.trained) == (True, False, False, False)
    assert training.metrics.top1 == METRICS["top1"]
    assert torch.__version__.startswith(training.versions["torch"])
    assert training.preprocessing is not None
    assert (training.preprocessing.mean, training.preprocessing.std, training.size) == (MEAN, STD, SIZE)
    assert json.loads((original.out / "model.json").read_text()).keys().isdisjoint({"source", "parity"})


def test_network_classes_and_images_are_those_of_the_training_run(original: Trained, published: Path) -> None:
    state = load_file(original.out / "model.safetensors")
    own, same = create_model(weights=original.out), create_model(f"local-dir:{published}", pretrained=True)
    for model in (own, same):
        assert model.class_names == LABELS
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        config = resolve_data_config(model)
        assert (config["mean"], config["std"], config["input_size"]) == (MEAN, STD, (3, SIZE, SIZE))
    assert resolve_data_config(NAME, original.out / "model.safetensors") == resolve_data_config(own)


def test_classifier_uses_the_recorded_classes_and_images(original: Trained, published: Path) -> None:
    for place in (original.out, published):
        loaded = classifier.load(classifier.ClassifierOptions(place))
        assert (loaded.labels, loaded.warning, loaded.official) == (LABELS, "", False)
        normalize = loaded.transform.transforms[-1]  # type: ignore[attr-defined]
        assert (tuple(normalize.mean), tuple(normalize.std)) == (MEAN, STD)
        assert loaded.transform.transforms[1].size == (SIZE, SIZE)  # type: ignore[attr-defined]


def test_folder_of_a_training_run_verifies_without_a_claim_of_parity(original: Trained) -> None:
    result = converter.verify(original.out)
    skipped = {(check.place, check.what): check.actual for check in result.checks if check.holds is None}
    assert result.holds
    assert result.classifies_images
    assert skipped["model.safetensors", "parity"] == "trained, not converted: no parity is claimed"
    assert ("checkpoint-003", "folder") in skipped
    assert verification.NOT_MEASURED in result.does_not_prove
    assert verification.NOT_TRUTH not in result.does_not_prove


def test_published_folder_verifies_without_a_claim_of_parity(published: Path) -> None:
    result = converter.verify(published)
    assert result.holds
    assert verification.NOT_TRUTH not in result.does_not_prove
    config = json.loads((published / "config.json").read_text())
    assert (config["num_classes"], config["label_names"]) == (3, list(LABELS))
    assert config["pretrained_cfg"]["input_size"] == [3, SIZE, SIZE]
    assert config["pretrained_cfg"]["pool_size"] == [12, 12]


def test_command_says_that_no_parity_is_claimed(original: Trained, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["publish", str(original.out), str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0
    (document,) = json.loads(result.stdout)
    assert (document["trained"], document["proven"]) == (True, False)
    assert (
        "trained    the model card has the metrics of the training run, and claims no parity" in result.stderr
    )
    assert "warning" not in result.stderr


def test_card_has_the_base_and_the_metrics(original: Trained, published: Path) -> None:
    card = (published / "README.md").read_text()
    sha256 = hashlib.sha256(original.base.read_bytes()).hexdigest()
    assert f"**fine-tuned** from `{NAME}` (weights that GluonCV did not publish, proven conversion" in card
    assert f"`{sha256}`" in card
    assert "| 3 | 0.25 | 87.50 % | 100.00 % |" in card
    assert "on 24 validation images" in card
    assert "**Not claimed.**" in card
    absent = ("model-index:", "UNPROVEN", "<neither>", "license:", "optimistic", "that GluonCV published for")
    assert [text for text in absent if text in card] == []


def test_claims_that_a_card_of_trained_weights_lacks_are_in_others(tmp_path: Path) -> None:
    converter.convert(NAME, tmp_path / "random", random=0, options=UNPROVEN)
    (folder,) = converter.publish(
        tmp_path / "random", tmp_path / "published", allow_random=True, allow_unproven=True
    )
    card = (folder.folder / "README.md").read_text()
    assert "UNPROVEN" in card
    assert "license:" in card


def test_card_does_not_claim_the_published_accuracy(tmp_path: Path) -> None:
    name = "gluon_resnet18_v1b"
    save(create_model(name, num_classes=3).state_dict(), tmp_path / "model.safetensors")
    converter.record_training(tmp_path, metrics=METRICS, base=None)
    (folder,) = converter.publish(tmp_path, tmp_path / "published", license="mit")
    card = (folder.folder / "README.md").read_text()
    assert "published for `resnet18_v1b` on ImageNet is **not** that of this model" in card
    assert f"{catalog.find(name).entry.top1:.2f}" not in card
    assert 'license: "mit"' in card


def test_proof_and_other_files_are_not_replaced(original: Trained, tmp_path: Path) -> None:
    converted = shutil.copytree(original.base.parent, tmp_path / "converted")
    with pytest.raises(ArtifactError, match="weights of a conversion, whose manifest would be lost"):
        converter.record_training(converted, metrics=METRICS, base=None)
    (weights,) = converted.glob("*.safetensors")
    weights.write_bytes((original.out / "model.safetensors").read_bytes())  # trained ones, under its name
    with pytest.raises(ArtifactError, match="the manifest of a conversion, which would be lost; move it"):
        converter.record_training(converted, metrics=METRICS, base=None)
    mine = tmp_path / "mine"
    save(load_file(original.out / "model.safetensors"), mine / "model.safetensors")
    (mine / "model.json").write_text('{"my": "settings"}')
    with pytest.raises(ArtifactError, match=r"model\.json: not a manifest, and would be lost; move it"):
        converter.record_training(mine, metrics=METRICS, base=None)
    assert (mine / "model.json").read_text() == '{"my": "settings"}'


def test_metrics_may_be_arrays_and_tensors_of_one_number(trained: Trained) -> None:
    numbers: dict[str, Any] = {"loss": torch.tensor(0.5), "top1": np.float32(50), "images": np.int64(9)}
    ignored = {"per_class": np.array([75.0, 100.0])}
    metrics = {**METRICS, "epoch": 17.0, **numbers, **ignored}
    converter.record_training(trained.out, metrics=metrics, base=trained.base, labels=LABELS)
    measured = read(trained.out).training.metrics
    assert (measured.epoch, measured.loss, measured.top1, measured.images) == (17, 0.5, 50, 9)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, trained: Trained) -> None:
    state = load_file(trained.out / "model.safetensors")
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = value
    save(state, trained.out / "model.safetensors")
    with pytest.raises(MappingError, match=r"layer1\.0\.conv1\.weight: contains NaN or infinity"):
        converter.record_training(trained.out, metrics=METRICS, base=trained.base)


def test_unchanged_weights_are_not_trained(original: Trained, tmp_path: Path) -> None:
    shutil.copyfile(original.base, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="the weights of the base; nothing was trained"):
        converter.record_training(tmp_path, metrics=METRICS, base=original.base)


def test_base_whose_manifest_contradicts_itself_is_refused(trained: Trained, tmp_path: Path) -> None:
    base = shutil.copytree(trained.base.parent, tmp_path / "base")
    (file,) = base.glob("*.json")
    document = json.loads(file.read_text())
    document["parity"] |= {"checks": [], "reference": "none"}
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="claims a proof but names no reference"):
        converter.record_training(trained.out, metrics=METRICS, base=base)


def test_labels_are_a_list(trained: Trained) -> None:
    with pytest.raises(UsageError, match="`labels`: expected a list of names, found 'abc'"):
        converter.record_training(trained.out, metrics=METRICS, base=None, labels="abc")


def test_labels_that_the_manifest_lacks_are_not_checked(trained: Trained) -> None:
    converter.record_training(trained.out, metrics=METRICS, base=trained.base)
    result = converter.verify(trained.out)
    assert [check.holds for check in result.checks if check.place == "labels.txt"] == [None]
    assert result.holds


def test_weights_of_any_name_are_verified_without_their_checkpoints(trained: Trained) -> None:
    shutil.move(trained.out / "model.safetensors", trained.out / "best.safetensors")
    (trained.out / "model.json").unlink()
    converter.record_training(trained.out, metrics=METRICS, base=trained.base, labels=LABELS)
    assert converter.verify(trained.out).holds


def test_training_from_scratch_has_no_base(original: Trained, tmp_path: Path) -> None:
    save(load_file(original.out / "model.safetensors"), tmp_path / "model.safetensors")
    converter.record_training(tmp_path, metrics=METRICS, base=None, model=NAME)
    manifest = read(tmp_path)
    assert manifest.training.base is None
    assert (manifest.training.preprocessing, manifest.training.size, manifest.labels) == (None, None, None)
    (folder,) = converter.publish(tmp_path, tmp_path / "published")
    card = (folder.folder / "README.md").read_text()
    assert "This model was **trained from scratch**" in card
    assert "mxnet" not in card.partition("\n---")[0]


def test_further_training_keeps_the_images_of_its_base(original: Trained, tmp_path: Path) -> None:
    state = load_file(original.out / "model.safetensors")
    state["fc.bias"] += 1
    save(state, tmp_path / "model.safetensors")
    converter.record_training(tmp_path, metrics=METRICS, base=original.out)
    training = read(tmp_path).training
    assert training.base is not None
    assert (training.base.trained, training.base.proven, training.base.source_sha1) == (True, False, None)
    assert training.preprocessing is not None
    assert (training.preprocessing.mean, training.size) == (MEAN, SIZE)


def test_base_without_a_manifest_is_of_unknown_origin(original: Trained, tmp_path: Path) -> None:
    base = shutil.copyfile(original.base, tmp_path / "base.safetensors")
    out = tmp_path / "out"
    save(load_file(original.out / "model.safetensors"), out / "model.safetensors")
    converter.record_training(out, metrics=METRICS, base=base)
    found = read(out).training.base
    assert found is not None
    assert (found.proven, found.official, found.source_sha1) == (False, False, None)
    (folder,) = converter.publish(out, tmp_path / "published")
    assert "(weights of unknown origin, SHA-256" in (folder.folder / "README.md").read_text()


def test_other_commands_take_a_trained_file(original: Trained, tmp_path: Path) -> None:
    inspection = converter.inspect(original.out / "model.safetensors")
    assert (inspection.is_trained, inspection.is_converted) == (True, False)
    assert inspection.verdict.startswith(f"trained weights of {NAME}, 3 classes: gluon2torch predict")
    assert "1 trained file: gluon2torch verify" in converter.inspect(original.out).verdict
    back = converter.to_gluon(original.out, tmp_path / "back.params", options=UNPROVEN)
    assert back.source_sha1 is None
    assert converter.diff(tmp_path / "back.params", original.out).identical
    with pytest.raises(MappingError, match=r"output\.weight|fc\.weight"):
        converter.compare(NAME, random=0, weights=original.out, options=FAST)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metrics": METRICS | {"top1": 101.0}}, UsageError, "`metrics`: top1: Expected `float` <= 100"),
        ({"metrics": {"epoch": 1}}, UsageError, "`metrics`: Object missing required field `loss`"),
        ({"metrics": METRICS | {"loss": float("nan")}}, UsageError, "`metrics`: loss: Expected `float` >= 0"),
        ({"metrics": METRICS | {"loss": float("inf")}}, ArtifactError, "contradictory metrics: loss inf"),
        ({"metrics": METRICS | {"top1": 90.0, "top5": 80.0}}, ArtifactError, "contradictory metrics"),
        ({"metrics": METRICS | {"top1": torch.ones(2)}}, UsageError, "top1: expected one number, found 2"),
        ({"metrics": METRICS | {"loss": np.array([])}}, UsageError, "loss: expected one number, found 0"),
        ({"metrics": METRICS | {"epoch": 1.5}}, UsageError, "`metrics`: epoch: Expected `int`"),
        ({"size": 0}, UsageError, "`size`: expected 1 to 2048 pixels, found 0"),
        ({"labels": ["one"]}, ArtifactError, "3 classes, but 1 class names"),
        ({"labels": ["one", "two", "\n"]}, ConversionError, "unprintable characters"),
        ({"model": OTHER}, MappingError, f"expected the tensors of {OTHER}, found those of {NAME}"),
        ({"base": "missing.safetensors"}, ConversionError, r"missing\.safetensors: No such file"),
    ],
)
def test_impossible_training_is_not_recorded(
    trained: Trained, changes: Content, error: type[ConversionError], message: str
) -> None:
    (trained.out / "model.json").unlink()
    with pytest.raises(error, match=message):
        converter.record_training(trained.out, **{"metrics": METRICS, "base": None, **changes})
    assert not (trained.out / "model.json").exists()


def test_trained_network_keeps_the_output_stride_of_its_base(original: Trained, tmp_path: Path) -> None:
    name = "gluon_resnet18_v1b"
    base, out = tmp_path / "base.safetensors", tmp_path / "out"
    save(create_model(name, num_classes=2, output_stride=8).state_dict(), base)
    document = json.loads(original.base.with_suffix(".json").read_text())
    document["artifact"]["sha256"] = hashlib.sha256(base.read_bytes()).hexdigest()
    base.with_suffix(".json").write_text(
        json.dumps({**document, "model": name, "model_args": {"output_stride": 8}})
    )
    out.mkdir()
    os.link(base, out / "model.safetensors")
    with pytest.raises(ArtifactError, match="the output would overwrite an input"):
        converter.record_training(out, metrics=METRICS, base=base)
    (out / "model.safetensors").unlink()
    save(create_model(name, num_classes=2).state_dict(), out / "model.safetensors")
    converter.record_training(out, metrics=METRICS, base=base)
    assert create_model(weights=out).config.output_stride == 8
    assert converter.verify(out).holds


def test_network_without_a_head_is_refused(tmp_path: Path) -> None:
    save(create_model(NAME, num_classes=0).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(MappingError, match="without a head; a trained network has classes"):
        converter.record_training(tmp_path, metrics=METRICS, base=None)


def test_base_of_another_network_is_refused(trained: Trained, tmp_path: Path) -> None:
    save(create_model("gluon_resnet18_v1b", num_classes=3).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(MappingError, match=f"expected the base of {NAME}, found weights of gluon_resnet18"):
        converter.record_training(trained.out, metrics=METRICS, base=tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="the output would overwrite an input"):
        converter.record_training(trained.out, metrics=METRICS, base=trained.out)


def test_weights_of_another_writer_are_refused(trained: Trained) -> None:
    path = trained.out / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "note": "hidden"})
    with pytest.raises(ArtifactError, match="its header is not the canonical one"):
        converter.record_training(path, metrics=METRICS, base=None)


def change_base(**changes: object) -> Callable[[Content], object]:
    return lambda content: content["training"]["base"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["training"].pop("base"), "missing required field `base`"),
        (lambda content: content.pop("training"), "missing required field `training`"),
        (lambda content: content.pop("kind"), "missing required field `source`"),
        (lambda content: content.update(kind="other"), "Invalid enum value"),
        (lambda content: content["labels"].pop(), "3 classes, but 2 class names"),
        (lambda content: content["artifact"].update(sha256="0" * 64), "sha256 differs"),
        (lambda content: content["artifact"].update(bytes=1), "bytes differs"),
        (lambda content: content["artifact"].update(tensors=1), "its tensors are not those in its manifest"),
        (lambda content: content["artifact"].update(parameters=1), "its number of parameters"),
        (lambda content: content.update(model=OTHER), "cannot be trained from weights of"),
        (lambda content: content["training"].update(classes=4, base=None), "4 classes, but 3 class names"),
        (lambda content: content["training"]["metrics"].update(top1=100.5), "Expected `float` <= 100"),
        (lambda content: content["training"].update(size=5000), "Expected `int` <= 2048"),
        (lambda content: content.update(model_args={"output_stride": 8}), "model arguments"),
        (lambda content: content["artifact"].update(pth=PTH), r"a trained file has no \.pth"),
        (change_base(random=True, official=True), "its base cannot be GluonCV's published file"),
        (change_base(official=True), "official base differs"),
        (change_base(file="../x"), "Expected `str` matching regex"),
    ],
)
def test_damaged_manifest_is_refused(
    trained: Trained, edit: Edit, change: Callable[[Content], object], message: str
) -> None:
    edit(change)
    with pytest.raises(ConversionError, match=message):
        artifact_checks.read(trained.out / "model.safetensors")
    assert not converter.verify(trained.out / "model.safetensors").holds


def test_manifest_of_another_network_or_of_other_classes_is_refused(trained: Trained, edit: Edit) -> None:
    edit(lambda content: [content["training"].update(base=None), content.update(model=OTHER)])
    with pytest.raises(ArtifactError, match=f"names {OTHER}, but its tensors match {NAME}"):
        artifact_checks.read(trained.out / "model.safetensors")
    edit(lambda content: [content["training"].update(classes=4), content.update(model=NAME, labels=None)])
    with pytest.raises(ArtifactError, match="says 4 classes, its head has 3"):
        artifact_checks.read(trained.out / "model.safetensors")


def test_changed_files_of_a_training_run_do_not_verify(trained: Trained) -> None:
    (trained.out / "labels.txt").write_text("a\nb\nc\n")
    assert failing(trained.out) == {("labels.txt", "class names")}
    (trained.out / "labels.txt").write_text("a\n")
    assert failing(trained.out) == {("labels.txt", "class names")}
    with (trained.out / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert ("model.safetensors", "sha256") in failing(trained.out)
    (trained.out / "model.safetensors").unlink()
    assert ("model.safetensors", "file") in failing(trained.out)


def test_manifest_of_other_weights_is_ignored(trained: Trained, edit: Edit) -> None:
    edit(lambda content: content["artifact"].update(sha256="0" * 64))
    assert converted_file.find_manifest(trained.out / "model.safetensors") is None


def test_trained_manifest_is_not_read_as_a_conversion(original: Trained) -> None:
    with pytest.raises(ArtifactError, match="the manifest of a trained file, not of a conversion"):
        schema.read(original.out / "model.json")
    with pytest.raises(ArtifactError, match="the manifest of a trained file, not of a conversion"):
        configuration.document(read(original.out), None)  # as of a generated module
    trained = replace(artifact_checks.read(original.out / "model.safetensors"), model=None)
    with pytest.raises(ArtifactError, match="the manifest of a trained file, not of a conversion"):
        card.render(trained, card.CardOptions())


def test_parity_report_of_a_trained_file_is_refused(original: Trained, tmp_path: Path) -> None:
    page = tmp_path / "parity.html"
    page.write_text(report.render(json_report.build(converter.compare(NAME, random=0, options=FAST))))
    with pytest.raises(ConversionError, match="which was trained further"):
        converter.publish(original.out, tmp_path / "out", report=page)
