"""Predictions equal those of a plain loop; unreadable images are refused by file name."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import manifests
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from converter.choices import Device, Preprocessing
from converter.errors import CheckpointError, ClassifierError, ImageError, MappingError
from converter.formats import weights_folder
from converter.vision import images, prediction
from converter.vision.classifier import ClassifierOptions
from converter.vision.prediction import PredictionRequest
from resnext_torch import create_model, create_transform, gluon_transform, resolve_data_config

if TYPE_CHECKING:
    from pathlib import Path

    from converter.vision.prediction import Predictions

NAME = "gluon_cifar_resnext29_32x4d"  # the smallest model, 20 MB
LABELS = ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LIMIT = 1e-5  # of a probability: other batch sizes sum in another order; measured 1e-8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of a network with distinct class scores."""
    torch.manual_seed(0)
    model = create_model(NAME)
    torch.nn.init.normal_(model.get_parameter("fc.weight"))
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of images of odd sizes, modes and formats, some in a subfolder."""
    generator = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    for name, size in {"b.png": (40, 51), "a.JPG": (33, 32), "more/c.webp": (32, 32)}.items():
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(pictures / name)
    Image.fromarray(generator.integers(0, 256, (35, 37), dtype=np.uint8)).save(pictures / "more/grey.png")
    (pictures / "notes.txt").write_text("no image")
    return pictures


def manifest(weights: Path, folder: Path, **changes: object) -> Path:
    """Write the weights with a manifest into a folder of their own."""
    folder.mkdir()
    path = folder / weights.name
    path.write_bytes(weights.read_bytes())
    document = manifests.manifest(path, **{"labels": LABELS, **changes})
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


def predict(weights: Path, *places: Path, top: int = 5, **options: Any) -> Predictions:  # noqa: ANN401 - options of several types
    return prediction.predict(
        PredictionRequest(places, ClassifierOptions(weights, **{"device": Device.cpu, **options}), top)
    )


def first_labels(predictions: Predictions) -> set[str]:
    return {guess.label for image in predictions.images for guess in image.classes}


@pytest.mark.parametrize("preprocessing", Preprocessing)
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_predictions_equal_those_of_a_plain_loop(
    weights: Path, folder: Path, preprocessing: Preprocessing, batch_size: int
) -> None:
    predictions = predict(weights, folder, preprocessing=preprocessing, batch_size=batch_size)
    model = create_model(NAME, weights).eval()
    ways: dict[str, Any] = {
        "bicubic": create_transform(**resolve_data_config(model)),
        "gluon": gluon_transform(model),
    }
    expected = [folder / name for name in ("a.JPG", "b.png", "more/c.webp", "more/grey.png")]
    assert [image.file for image in predictions.images] == expected
    for image in predictions.images:
        with Image.open(image.file) as opened, torch.inference_mode():
            batch = ways[preprocessing](opened.convert("RGB")).unsqueeze(0)
            values, numbers = model(batch).softmax(dim=1)[0].topk(5)
        assert [guess.index for guess in image.classes] == numbers.tolist()
        assert [guess.probability for guess in image.classes] == pytest.approx(values.tolist(), abs=LIMIT)


def test_preprocessing_changes_the_result(weights: Path, folder: Path) -> None:
    bicubic, gluon = (predict(weights, folder / "b.png", preprocessing=way) for way in Preprocessing)
    difference = bicubic.images[0].classes[0].probability - gluon.images[0].classes[0].probability
    assert abs(difference) > LIMIT


def test_top_above_the_number_of_classes_returns_all(weights: Path, folder: Path) -> None:
    predictions = predict(weights, folder / "b.png", top=99)
    probabilities = [guess.probability for guess in predictions.images[0].classes]
    assert len(probabilities) == 10
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_labels_are_read_from_the_manifest(weights: Path, folder: Path, tmp_path: Path) -> None:
    path = manifest(weights, tmp_path / "out")
    for place in (path, tmp_path / "out"):
        predictions = predict(place, folder, top=10)
        assert [(g.label) for g in predictions.images[0].classes] == [
            LABELS[g.index] for g in predictions.images[0].classes
        ]


@pytest.mark.parametrize(
    "changes",
    [{"artifact": {"sha256": "0" * 64}}, {"labels": None}, {"artifact": 3}],
    ids=["of another file", "without labels", "of another program"],
)
def test_classes_without_labels_are_numbered(
    weights: Path, folder: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    predictions = predict(manifest(weights, tmp_path / "out", **changes), folder, top=10)
    assert first_labels(predictions) == {str(number) for number in range(10)}


def test_manifest_with_too_few_labels_is_refused(weights: Path, folder: Path, tmp_path: Path) -> None:
    path = manifest(weights, tmp_path / "out", labels=LABELS[:9])
    with pytest.raises(
        CheckpointError, match="the network has 10 classes, but its manifest has 9 class names"
    ):
        predict(path, folder)


def test_thousand_classes_have_imagenet_names(tmp_path: Path, folder: Path) -> None:
    state = create_model("gluon_resnet18_v1b").state_dict()
    state["fc.bias"][258] += 100
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.pth"
    )
    (image,) = predict(tmp_path / "a.pth", folder / "b.png").images
    assert (image.classes[0].index, image.classes[0].label) == (258, "Samoyed")


def test_rounded_weights_without_counters_are_accepted(weights: Path, folder: Path, tmp_path: Path) -> None:
    state = create_model(NAME, weights).state_dict()
    state = {name: tensor.half() for name, tensor in state.items() if tensor.is_floating_point()}
    save_file(state, tmp_path / "half.safetensors")
    result, exact = predict(tmp_path / "half.safetensors", folder), predict(weights, folder)
    assert [i.classes[0].index for i in result.images] == [i.classes[0].index for i in exact.images]


def test_progress_is_reported(weights: Path, folder: Path) -> None:
    updates: list[tuple[str, int, int]] = []
    request = PredictionRequest((folder,), ClassifierOptions(weights, device=Device.cpu, batch_size=3))
    prediction.predict(request, lambda *step: updates.append(step))
    assert updates == [("images", 3, 4), ("images", 4, 4)]


def test_unreadable_images_are_all_named(weights: Path, folder: Path) -> None:
    complete = (folder / "b.png").read_bytes()
    (folder / "cut.png").write_bytes(complete[:-200])
    (folder / "text.jpg").write_text("no image")
    (folder / "void.png").touch()
    with pytest.raises(ImageError) as caught:
        predict(weights, folder)
    lines = str(caught.value).split("\n  ")
    assert [re.split(": ", line)[0] for line in lines] == [
        str(folder / name) for name in ("cut.png", "text.jpg", "void.png")
    ]
    assert "cannot be read as an image: " in lines[0]
    assert lines[1].endswith("not an image, or an unsupported format")


@pytest.mark.parametrize("way", Preprocessing)
def test_truncated_jpeg_is_refused(weights: Path, folder: Path, way: Preprocessing) -> None:
    path = folder / "a.JPG"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageError, match=r"a\.JPG: cannot be read as an image: .*truncated"):
        predict(weights, path, preprocessing=way)


def test_paths_without_images_are_all_named(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = (
        r"empty: no images in this folder; supported: \.jpg, (.*\n)+.*missing\.png: no such file or folder"
    )
    with pytest.raises(ImageError, match=message):
        predict(weights, tmp_path / "empty", tmp_path / "missing.png")


def test_image_given_twice_is_listed_once(folder: Path) -> None:
    assert images.find_images([folder / "more", folder]) == (
        *(folder / "more" / name for name in ("c.webp", "grey.png")),
        *(folder / name for name in ("a.JPG", "b.png")),
    )


@pytest.mark.parametrize(
    ("way", "missing"),
    [(Preprocessing.bicubic, "torchvision"), (Preprocessing.gluon, "cv2"), (Preprocessing.gluon, "PIL")],
)
def test_missing_package_is_named_with_its_extra(
    weights: Path, folder: Path, way: Preprocessing, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # which is what an import fails at
    message = rf"need {missing}, which cannot be imported: .*halted.*\n  pip install 'gluon2torch\[vision\]'"
    with pytest.raises(ImageError, match=message):
        predict(weights, folder, preprocessing=way)


def test_gluon_preprocessing_does_not_need_torchvision(
    weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert len(predict(weights, folder, preprocessing=Preprocessing.gluon).images) == 4


def test_weights_of_an_unknown_network_are_refused(folder: Path, tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(MappingError, match=r"a\.safetensors: the tensors match no model; the closest is"):
        predict(tmp_path / "a.safetensors", folder)


def test_gluon_parameters_are_refused_with_a_hint(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    path.write_bytes((0x112).to_bytes(8, "little") + bytes(16))
    message = r"Gluon parameters; convert them first:\n  gluon2torch convert auto OUT --params .+a\.params"
    with pytest.raises(CheckpointError, match=message):
        predict(path, folder)


def test_folder_with_several_weights_is_refused(weights: Path, folder: Path, tmp_path: Path) -> None:
    path = manifest(weights, tmp_path / "out")
    path.with_name("other.safetensors").write_bytes(b"")
    message = rf"two models in .*out/: name one, .*\n  found       {NAME}\.safetensors, other\.safetensors$"
    with pytest.raises(CheckpointError, match=message):
        predict(tmp_path / "out", folder)
    path.rename(path.with_name("model.safetensors"))
    assert weights_folder.find_weights(tmp_path / "out") == tmp_path / "out" / "model.safetensors"


def test_nonfinite_logits_are_refused(weights: Path, folder: Path, tmp_path: Path) -> None:
    state = create_model(NAME, weights).state_dict()
    state["bn1.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(ClassifierError, match=r"nan\.safetensors: the logits of the network are not finite"):
        predict(tmp_path / "nan.safetensors", folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_missing_gpu_is_refused(weights: Path, folder: Path) -> None:
    with pytest.raises(ClassifierError, match="--device cuda: torch finds no GPU"):
        predict(weights, folder, device=Device.cuda)
    assert predict(weights, folder, device=Device.auto).classifier.device == "cpu"


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_image_with_more_than_8_bits_is_refused(weights: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "deep.tiff"
    Image.new(mode, (32, 32), 300).save(path)
    with pytest.raises(ImageError, match=r"deep\.\w+: more than 8 bits per channel"):
        predict(weights, path)


def test_cyclic_link_is_followed_once(folder: Path) -> None:
    expected = len(images.find_images([folder]))
    (folder / "more" / "again").symlink_to(folder)
    assert len(images.find_images([folder])) == expected


@pytest.mark.parametrize("classes", [1, 2])
def test_single_logit_uses_a_sigmoid(classes: int, folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(NAME, num_classes=classes).eval()
    path = tmp_path / "one.safetensors"
    save_file(model.state_dict(), path)
    predictions = predict(path, folder)
    transform = create_transform(**resolve_data_config(model))
    for image in predictions.images:
        with torch.inference_mode():
            logits = model(transform(Image.open(image.file).convert("RGB")).unsqueeze(0))[0]
        expected = logits.sigmoid() if classes == 1 else logits.softmax(0)
        updates = {guess.index: guess.probability for guess in image.classes}
        assert updates == pytest.approx(dict(enumerate(expected.tolist())), rel=1e-4)
        assert 0 < updates[0] < 1


WARNINGS = {
    "random": (
        {"source": {**manifests.SOURCE, "file": f"{NAME}.random-0.params"}},
        "the weights are random numbers",
    ),
    "unproven": ({"parity": manifests.UNPROVEN}, "the weights are unproven"),
    "rounded": (
        {"narrowing": {"dtype": "float16", "before": manifests.PROVEN, "logits": manifests.LOGITS}},
        "the weights were proven before rounding to float16; the rounded weights are not proven",
    ),
    "proven": ({"parity": manifests.PROVEN}, ""),
}


@pytest.mark.parametrize(("changes", "warning"), WARNINGS.values(), ids=WARNINGS)
def test_random_and_unproven_weights_have_a_warning(
    changes: dict[str, object], warning: str, weights: Path, folder: Path, tmp_path: Path
) -> None:
    predictions = predict(manifest(weights, tmp_path / "told", **changes), folder)
    assert predictions.classifier.warning.startswith(warning)
    assert bool(predictions.classifier.warning) == bool(warning)


def test_random_weights_are_recognised_by_file_name(weights: Path, folder: Path, tmp_path: Path) -> None:
    isolated = tmp_path / "alone"
    isolated.mkdir()
    path = isolated / f"{NAME}.random-0a1b2c3d.safetensors"
    path.write_bytes(weights.read_bytes())
    assert predict(path, folder).classifier.warning == "the weights are random numbers"
    renamed = path.rename(isolated / "mine.safetensors")
    assert predict(renamed, folder).classifier.warning == ""


def test_weights_without_a_manifest_have_no_warning(weights: Path, folder: Path) -> None:
    assert predict(weights, folder).classifier.warning == ""
