"""Weights from files and folders, and networks adapted to other classes and channels."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv

from resnext_torch import CONFIGS, WeightsError, create_model, detection, state_spec, weight_files

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

NAME = "gluon_cifar_resnext29_32x4d"  # the smallest model, 20 MB
EXAMPLE = Path(__file__).parents[1] / "examples" / "cifar10.params.gz"
DEEP = "gluon_resnet50_v1c"  # with a stem of three convolutions


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return create_model(NAME).state_dict()


@pytest.fixture
def file(state: State, tmp_path: Path) -> Path:
    return save_weights(state, tmp_path)


def save_weights(state: State, folder: Path, *, stem: str = NAME, sha256: str = "") -> Path:
    """Write weights under a name with their hash, or with a given one."""
    path = folder / "unnamed"
    save_file(state, path)
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(folder / f"{stem}-{digest}.safetensors")


def same(result: State, expected: State) -> bool:
    return result.keys() == expected.keys() and all(
        torch.equal(result[name], expected[name]) for name in result
    )


def test_file_folder_and_pth_give_the_same_network(state: State, file: Path, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "epoch.pth")
    for place in (file, str(file), tmp_path, tmp_path / "epoch.pth"):
        model = create_model(NAME, place)
        assert same(model.state_dict(), state)
        assert model.training
    assert not same(create_model(NAME).state_dict(), state)


def test_hub_folder_is_read(state: State, file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "model.safetensors")
    assert same(create_model(NAME, tmp_path).state_dict(), state)


def test_hash_in_the_file_name_is_verified(state: State, tmp_path: Path) -> None:
    path = save_weights(state, tmp_path, sha256="0badc0de")
    with pytest.raises(
        WeightsError, match=r"damaged or renamed: expected SHA-256 0badc0de…, found [0-9a-f]{8}…"
    ):
        create_model(NAME, path)
    assert same(create_model(NAME, path.rename(tmp_path / "mine.safetensors")).state_dict(), state)


@pytest.fixture
def published(file: Path, tmp_path: Path) -> Path:
    """Return a published folder: the weights under the hub's name, with their SHA-256 in SHA256SUMS."""
    folder = tmp_path / "published"
    folder.mkdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  README.md\n{digest}  model.safetensors\n")
    file.rename(folder / "model.safetensors")
    return folder


def test_sums_of_a_published_folder_are_verified(state: State, published: Path) -> None:
    assert same(create_model(NAME, published).state_dict(), state)
    weights = published / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))
    assert weights.stat().st_size == size
    for place in (published, weights):
        with pytest.raises(
            WeightsError,
            match=r"model\.safetensors: damaged or renamed: expected SHA-256 [0-9a-f]{64}…, found ",
        ):
            create_model(NAME, place)
    (published / "SHA256SUMS").unlink()  # nothing else reveals the changed byte
    assert not same(create_model(NAME, published).state_dict(), state)


def test_sums_of_other_files_are_ignored(state: State, published: Path) -> None:
    (published / "SHA256SUMS").write_text(f"{'0' * 64}  other-model.safetensors\n")
    assert same(create_model(NAME, published).state_dict(), state)


def test_folder_with_several_files_or_none_is_refused(state: State, file: Path, tmp_path: Path) -> None:
    random = save_weights(state, tmp_path, stem=f"{NAME}.random")
    known = f"two models in {tmp_path}/: name one, such as {file}\n  found       {file.name}, {random.name}"
    for name in (NAME, None):
        with pytest.raises(WeightsError, match=f"^{re.escape(known)}$"):
            create_model(name, tmp_path)
    with pytest.raises(
        WeightsError, match=r"expected a file of gluon_senet154 or model\.safetensors, found gluon_cifar"
    ):
        create_model("gluon_senet154", tmp_path)
    file.unlink()
    random.unlink()
    with pytest.raises(WeightsError, match=r"expected a \.safetensors or \.pth file, found none$"):
        create_model(weights=tmp_path)


def test_model_is_detected_from_the_tensors(state: State, file: Path, tmp_path: Path) -> None:
    seven = {**state, "fc.weight": torch.zeros(7, 1024), "fc.bias": torch.zeros(7)}
    seven["conv1.weight"] = torch.zeros(64, 1, 3, 3)
    save_file(seven, tmp_path / "seven.pth.safetensors")
    headless = {name: tensor for name, tensor in state.items() if "fc." not in name}
    torch.save(headless, tmp_path / "headless.pth")
    places = {file: (10, 3), tmp_path / "seven.pth.safetensors": (7, 1), tmp_path / "headless.pth": (0, 3)}
    for place, sizes in places.items():
        model = create_model(weights=place)
        assert (model.num_classes, model.in_chans) == sizes
        assert model.pretrained_cfg["architecture"] == NAME
        assert model.pretrained_cfg["num_classes"] == sizes[0]
    with pytest.raises(WeightsError, match="three models in"):
        create_model(weights=tmp_path)
    (tmp_path / "seven.pth.safetensors").unlink()
    with pytest.raises(WeightsError, match="two models in"):  # a .pth that `convert` did not write
        create_model(weights=tmp_path)
    (tmp_path / "headless.pth").rename(tmp_path / f"{NAME}-{'0' * 8}.pth")
    assert same(create_model(weights=tmp_path).state_dict(), state)


def test_every_network_is_detected_and_no_other() -> None:
    for name, config in CONFIGS.items():
        shapes = {spec.name: spec.shape for spec in state_spec(config)}
        assert detection.detect(shapes, Path("out.safetensors")) == name
        del shapes["bn1.bias"]
        with pytest.raises(
            WeightsError, match=r"match no network of list_models\(\)\n  try         gluon2torch"
        ):
            detection.detect(shapes, Path("out.safetensors"))


def test_weights_or_a_name_are_required() -> None:
    with pytest.raises(ValueError, match=r"^expected the name of a network, or weights to detect it from$"):
        create_model()


GLUON = (
    "Gluon parameters, which must be converted first\n  try         gluon2torch convert auto OUT --params "
)


@pytest.mark.parametrize("name", ["my.params", "my.params.gz", "my-0000.params", "renamed.safetensors"])
def test_gluon_parameters_are_refused_with_the_command_that_converts_them(name: str, tmp_path: Path) -> None:
    content = EXAMPLE.read_bytes()
    (tmp_path / name).write_bytes(content if name.endswith(".gz") else gzip.decompress(content))
    path = tmp_path / name
    for model in (NAME, None):
        with pytest.raises(WeightsError, match=f"^{re.escape(f'{path}: {GLUON}{path}')}$"):
            create_model(model, path)
    if ".params" in name:
        with pytest.raises(
            WeightsError, match=rf"found Gluon parameters\n  try .*convert auto OUT --params {path}$"
        ):
            create_model(NAME, tmp_path)


def test_longer_model_name_does_not_match(state: State, file: Path, tmp_path: Path) -> None:
    save_weights(state, tmp_path, stem=f"{NAME}e")
    assert same(create_model(NAME, tmp_path).state_dict(), state)
    assert file.exists()


def test_missing_or_damaged_file_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing\.safetensors: No such file"):
        create_model(NAME, tmp_path / "missing.safetensors")
    short = tmp_path / "short.safetensors"
    short.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"short\.safetensors: Error while deserializing header: "):
        create_model(NAME, short)


def test_file_of_another_network_is_refused_by_its_tensors(file: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"the weights do not match the network: .*(\n.*)*Missing key.*layer4"
    ):
        create_model("gluon_resnext50_32x4d", file)
    with pytest.raises(
        WeightsError, match=r"the weights do not match the network: .*(\n.*)*size mismatch for layer1"
    ):
        create_model("gluon_cifar_resnext29_16x64d", file)


def test_head_of_the_requested_size_is_kept(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    seven = {**state, "fc.weight": torch.randn(7, 1024), "fc.bias": torch.randn(7)}
    path = save_weights(seven, tmp_path)
    for model in (create_model(NAME, path), create_model(NAME, path, num_classes=7)):
        assert same(model.state_dict(), seven)
        assert model.config.num_classes == 7
    assert not caplog.records


def test_head_of_another_size_is_replaced_with_a_warning(
    state: State, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = create_model(NAME, file, num_classes=3).eval()
    assert caplog.messages == ["replaced the head for 10 classes by a new one for 3"]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    assert same({name: model.state_dict()[name] for name in body}, body)


def test_zero_classes_return_features(file: Path) -> None:
    model = create_model(NAME, file, num_classes=0).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 1024)


@pytest.mark.parametrize(("num_classes", "in_chans"), [(-1, 3), (-1000, 3), (10, 0), (None, -1)])
def test_negative_classes_or_zero_channels_are_refused(num_classes: int | None, in_chans: int) -> None:
    expected = f"^expected in_chans >= 1 and num_classes >= 0, found {in_chans} and {num_classes}$"
    with pytest.raises(ValueError, match=expected):
        create_model(NAME, num_classes=num_classes, in_chans=in_chans)


@pytest.mark.parametrize(("num_classes", "outputs"), [(0, 1024), (1, 1), (None, 10)])
def test_any_number_of_classes_from_zero_is_accepted(num_classes: int | None, outputs: int) -> None:
    model = create_model(NAME, num_classes=num_classes).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, outputs)


@pytest.mark.parametrize("in_chans", [1, 2, 4, 5, 7])
def test_first_convolution_is_adapted_as_in_timm(
    state: State, file: Path, in_chans: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = create_model(NAME, file, in_chans=in_chans)
    expected = adapt_input_conv(in_chans, state["conv1.weight"].clone())
    assert torch.equal(model.state_dict()["conv1.weight"], expected)
    assert caplog.messages == [f"adapted the first convolution to {in_chans} channels"]
    assert same({**model.state_dict(), "conv1.weight": state["conv1.weight"]}, state)


def test_first_of_three_convolutions_is_adapted(tmp_path: Path) -> None:
    state = create_model(DEEP).state_dict()
    model = create_model(DEEP, save_weights(state, tmp_path, stem=DEEP), in_chans=1)
    assert torch.equal(model.state_dict()["conv1.0.weight"], adapt_input_conv(1, state["conv1.0.weight"]))
    assert torch.equal(model.state_dict()["conv1.3.weight"], state["conv1.3.weight"])


def test_convolution_for_other_channels_is_not_adapted(state: State, tmp_path: Path) -> None:
    four = {**state, "conv1.weight": torch.zeros(64, 4, 3, 3)}
    path = save_weights(four, tmp_path)
    assert same(create_model(NAME, path, in_chans=4).state_dict(), four)
    with pytest.raises(WeightsError, match=r"conv1\.weight: cannot adapt 4 input channels to 3"):
        create_model(NAME, path, in_chans=3)


def test_input_channels_are_those_of_the_file(state: State, tmp_path: Path) -> None:
    four = {**state, "conv1.weight": torch.randn(64, 4, 3, 3)}
    model = create_model(NAME, save_weights(four, tmp_path)).eval()
    assert same(model.state_dict(), four)
    assert model.config.in_chans == 4
    assert model(torch.zeros(1, 4, 32, 32)).shape == (1, 10)


@pytest.fixture
def headless(state: State, tmp_path: Path) -> Path:
    folder = tmp_path / "headless"
    folder.mkdir()
    return save_weights({name: tensor for name, tensor in state.items() if "fc." not in name}, folder)


def test_file_without_a_head_gives_features(
    state: State, file: Path, headless: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = torch.randn(2, 3, 32, 32)
    create_model(NAME, headless, features_only=True)
    assert not caplog.messages
    warning = "the weights have no head, so the network returns pooled features"
    for classes, messages in ((None, [warning]), (0, [])):
        model = create_model(NAME, headless, num_classes=classes)
        assert caplog.messages == messages
        with torch.no_grad():
            expected = create_model(NAME, file, num_classes=0).eval()(images)
            assert torch.equal(model.eval()(images), expected)
        caplog.clear()
    model = create_model(NAME, headless, num_classes=5)
    assert caplog.messages == ["added a new head for 5 classes, because the weights have none"]
    assert model.eval()(images).shape == (2, 5)
    assert same({**model.state_dict(), **{name: state[name] for name in state if "fc." in name}}, state)


def test_half_a_head_is_refused(state: State, tmp_path: Path) -> None:
    half = {name: tensor for name, tensor in state.items() if name != "fc.weight"}
    with pytest.raises(WeightsError, match=r"Unexpected key\(s\) in state_dict: \"fc\.bias\""):
        create_model(NAME, save_weights(half, tmp_path))


@pytest.fixture
def dilated(tmp_path: Path) -> Path:
    """Return a file with the manifest that gluon2torch writes for a dilated network, and a ``.pth``."""
    name = "gluon_resnet18_v1b"
    state = create_model(name).state_dict()
    path = save_weights(state, tmp_path, stem=name)
    torch.save(state, tmp_path / "18.pth")
    pth = {"file": "18.pth", "sha256": hashlib.sha256((tmp_path / "18.pth").read_bytes()).hexdigest()}
    artifact = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "pth": pth}
    manifest = {"artifact": artifact, "model_args": {"output_stride": 8}}
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path


def stride(path: Path, output_stride: int | None = None) -> int:
    return create_model("gluon_resnet18_v1b", path, output_stride=output_stride).config.output_stride


def test_output_stride_is_the_one_in_the_manifest_or_of_the_caller(dilated: Path) -> None:
    assert stride(dilated) == stride(dilated.parent) == stride(dilated.with_name("18.pth")) == 8
    assert stride(dilated, output_stride=16) == 16
    dilated.rename(dilated.with_name("model.safetensors"))
    dilated.with_suffix(".json").rename(dilated.with_name("manifest.json"))
    assert stride(dilated.parent) == 8


def test_renamed_file_is_found_in_its_manifest_by_its_hash(dilated: Path) -> None:
    file = dilated.with_suffix(".json")
    manifest = json.loads(file.read_text())
    moved = dilated.rename(dilated.with_name("moved.safetensors"))
    assert stride(moved) == 8
    del manifest["artifact"]["sha256"]
    file.write_text(json.dumps(manifest))
    assert stride(moved) == 32  # the manifest has no hash
    manifest["artifact"]["sha256"] = "0" * 64
    manifest["artifact"]["pth"]["sha256"] = hashlib.sha256(moved.read_bytes()).hexdigest()
    file.write_text(json.dumps(manifest))
    assert stride(moved) == 8


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"artifact": 1}', '{"artifact": {"file": "other"}}'])
def test_other_json_next_to_the_file_is_ignored(dilated: Path, content: str) -> None:
    dilated.with_suffix(".json").write_text(content)
    assert stride(dilated) == 32


def test_invalid_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^output_stride: expected 4, found 8$"):
        create_model(NAME, output_stride=8)
    with pytest.raises(ValueError, match=r"^output_stride: expected 8, 16, 32, found 4$"):
        create_model(DEEP, output_stride=4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_weights_are_loaded_in_float32(state: State, tmp_path: Path, dtype: torch.dtype) -> None:
    rounded = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }
    result = create_model(NAME, save_weights(rounded, tmp_path)).state_dict()
    assert {tensor.dtype for tensor in result.values()} == {torch.float32, torch.int64}
    assert same(result, {name: tensor.to(result[name].dtype) for name, tensor in rounded.items()})
    assert not same(result, state)


def test_pth_that_would_call_something_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": CONFIGS}, tmp_path / "evil.pth")
    with pytest.raises(
        WeightsError, match=r"(?i)evil\.pth: cannot be loaded with weights_only=True: .*weights.only"
    ):
        create_model(NAME, tmp_path / "evil.pth")


def test_checkpoint_is_loaded_strictly_into_the_finished_network(
    state: State, file: Path, tmp_path: Path
) -> None:
    nested = {"model": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(nested, tmp_path / "epoch.pth")
    for place in (file, tmp_path / "epoch.pth"):
        assert same(create_model(NAME, checkpoint_path=place).state_dict(), state)
    with pytest.raises(
        WeightsError, match=r"epoch\.pth: the weights do not match the network: (.*\n)*.*fc\.weight"
    ):
        create_model(NAME, num_classes=3, checkpoint_path=tmp_path / "epoch.pth")


def test_checkpoint_of_a_dilated_network_keeps_its_stride(dilated: Path) -> None:
    model = create_model("gluon_resnet18_v1b", checkpoint_path=dilated)
    assert model.config.output_stride == 8
    assert create_model("resnet18_v1b", checkpoint_path=dilated, output_stride=16).config.output_stride == 16


def test_pool_and_dropout_are_those_of_the_caller(state: State, file: Path) -> None:
    model = create_model(NAME, file, global_pool="max", drop_rate=0.3)
    assert same(model.state_dict(), state)
    assert isinstance(model.avgpool, torch.nn.AdaptiveMaxPool2d)
    assert model.drop_rate == 0.3
    with pytest.raises(WeightsError, match=r"size mismatch for fc\.weight"):
        create_model(NAME, file, global_pool="catavgmax")
    assert create_model(NAME, file, global_pool="catavgmax", num_classes=4).fc.weight.shape == (4, 2048)
    unpooled = create_model(NAME, file, global_pool="", num_classes=0).eval()
    assert unpooled(torch.zeros(1, 3, 32, 32)).shape == (1, 1024, 8, 8)


def test_class_names_come_from_the_manifest_or_labels(file: Path, tmp_path: Path) -> None:
    labels = [f"kind {number}" for number in range(10)]
    assert create_model(NAME, file).class_names == ()
    (tmp_path / "labels.txt").write_text("\n".join([*labels[1:], labels[0], ""]))
    assert create_model(NAME, file).class_names == (*labels[1:], labels[0])
    artifact = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest = {"artifact": artifact, "labels": labels}
    file.with_suffix(".json").write_text(json.dumps(manifest))
    model = create_model(NAME, file)
    assert model.class_names == model.pretrained_cfg["label_names"] == tuple(labels)
    assert create_model(NAME, checkpoint_path=file).class_names == tuple(labels)
    assert create_model(NAME, file, num_classes=3).class_names == ()
    model.reset_classifier(10)
    assert model.class_names == ()
    file.with_suffix(".json").write_text(json.dumps({**manifest, "labels": labels[1:]}))
    with pytest.raises(WeightsError, match=r"the head has 10 classes, but 9 have names$"):
        create_model(NAME, file)


def test_weights_for_1000_classes_have_the_names_of_imagenet(dilated: Path) -> None:
    model = create_model("gluon_resnet18_v1b", dilated)
    assert model.class_names[:2] == ("tench", "goldfish")
    assert len(model.class_names) == 1000
    assert create_model("gluon_resnet18_v1b").class_names == ()


def test_backbone_has_the_description_of_its_network(file: Path) -> None:
    backbone = create_model(NAME, file, features_only=True)
    assert backbone.pretrained_cfg == backbone.default_cfg == create_model(NAME, file).pretrained_cfg


def test_weights_for_a_module_with_other_settings_are_refused(tmp_path: Path) -> None:
    """ResNet v1 for torchvision has the names and shapes of gluon_resnet50_v1b, and other strides."""
    path = tmp_path / "resnet50.safetensors"
    path.touch()
    artifact = {"file": path.name, "sha256": hashlib.sha256(b"").hexdigest()}
    manifest: dict[str, Any] = {"artifact": artifact, "target": {"name": "torchvision:resnet50"}}
    (tmp_path / "resnet50.json").write_text(json.dumps(manifest))
    assert weight_files.arguments(path) == {}
    manifest["target"]["adaptations"] = [{"module": "layer2.0.conv1", "setting": "stride", "value": [2, 2]}]
    (tmp_path / "resnet50.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="weights for torchvision:resnet50 with other settings"):
        weight_files.arguments(path)
