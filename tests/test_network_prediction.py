"""``predict`` gives GluonCV's networks, converted by name, the images on which GluonCV evaluates them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from converter.choices import Device, PredictionTask
from converter.commands import prediction
from converter.commands.graph_conversion import convert_graph
from converter.errors import ArtifactError, ClassifierError
from converter.formats.params import write_params
from converter.networks import families, recorded_graphs, recorded_index, recorded_sources
from converter.parity.options import ParityOptions
from converter.vision import gluoncv_inputs, placement
from converter.vision.classifier import ClassifierOptions
from converter.vision.graph_prediction import GraphPredictionRequest, GraphPredictions

if TYPE_CHECKING:
    from pathlib import Path

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PROVEN = ParityOptions("numpy", dtypes=["float32"])
UNPROVEN = ParityOptions("none")
NAME = "mobilenet0.25"
LIMIT = 1e-5  # of probabilities


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image of 32×32 random pixels."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def predict(weights: Path, image: Path, size: tuple[int, int] | None = None) -> GraphPredictions:
    request = prediction.PredictRequest(
        options=ClassifierOptions(weights, device=Device.cpu),
        images=GraphPredictionRequest(paths=(image,), top=10),
        size=size,
    )
    found = prediction.run(request)
    assert isinstance(found, GraphPredictions)
    return found


@pytest.mark.parametrize(
    ("name", "options", "size", "task"),
    [
        ("dla34", PROVEN, 224, PredictionTask.classification),
        ("xception", UNPROVEN, 299, PredictionTask.classification),
        ("center_net_mobilenetv3_small_duc_voc", UNPROVEN, 512, PredictionTask.detection),
    ],
)
def test_size_is_the_one_of_gluoncv(
    name: str, options: ParityOptions, size: int, task: PredictionTask, image: Path, tmp_path: Path
) -> None:
    """The proof of dla34 has images of 96×128 pixels."""
    convert_graph(name, tmp_path / "out", random=1, options=options)
    network = predict(tmp_path / "out", image).network
    assert (network.task, network.size) == (task, (size, size))
    assert (network.normalization, network.crop_pct) == (placement.NORMALIZED, 0.875)


def test_images_of_cifar_are_normalized_as_in_training(image: Path, tmp_path: Path) -> None:
    convert_graph("cifar_resnet20_v1", tmp_path / "out", random=1, options=PROVEN)
    predictions = predict(tmp_path / "out", image)
    with Image.open(image) as opened:
        pixels = torch.from_numpy(np.array(opened)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (CIFAR_MEAN, CIFAR_STD))
    with torch.inference_mode():
        expected = predictions.network.module(((pixels - mean) / std)[None])[0].softmax(dim=0)
        other = predictions.network.module(pixels[None])[0].softmax(dim=0)
    found = {each.index: each.probability for each in predictions.images[0].classes}
    assert [found[number] for number in range(10)] == pytest.approx(expected.tolist(), abs=LIMIT)
    assert [found[number] for number in range(10)] != pytest.approx(other.tolist(), abs=LIMIT)


def test_requested_size_replaces_the_one_of_gluoncv(image: Path, tmp_path: Path) -> None:
    convert_graph("cifar_resnet20_v1", tmp_path / "out", random=1, options=UNPROVEN)
    network = predict(tmp_path / "out", image, size=(48, 48)).network
    assert (network.size, network.normalization) == ((48, 48), placement.CIFAR_NORMALIZED)


def test_every_network_has_an_input() -> None:
    inputs = {name: gluoncv_inputs.find(name) for name in recorded_index.index()}
    cifar = {name for name, each in inputs.items() if each.normalization is placement.CIFAR_NORMALIZED}
    assert cifar == {name for name in inputs if name.startswith("cifar_")}


def test_unknown_network_is_refused() -> None:
    assert families.find("resnet7_v9") is None
    with pytest.raises(ClassifierError, match=r"resnet7_v9: the size.*unknown.*\n.*pip install"):
        gluoncv_inputs.find("resnet7_v9")


@pytest.mark.parametrize("options", [PROVEN, UNPROVEN], ids=["proven", "unproven"])
def test_random_weights_are_a_warning_whatever_the_name_of_the_module(
    options: ParityOptions, image: Path, tmp_path: Path
) -> None:
    """The module is mobilenet0_25, the parameters are mobilenet0.25.random-1.params."""
    convert_graph(NAME, tmp_path / "out", random=1, options=options)
    assert predict(tmp_path / "out", image).warning == "the weights are random numbers"


@pytest.mark.parametrize("form", [".safetensors", ".pth"])
def test_weights_for_timm_give_the_probabilities_of_the_generated_module(
    form: str, image: Path, tmp_path: Path
) -> None:
    """darknet53 in timm has other slopes, which the manifest changes."""
    convert_graph("darknet53", tmp_path / "own", random=1, options=UNPROVEN)
    convert_graph("darknet53", tmp_path / "timm", random=1, target="timm", pth=True, options=UNPROVEN)
    (weights,) = (tmp_path / "timm").glob(f"*{form}")
    expected, found = predict(tmp_path / "own", image), predict(weights, image)
    assert found.warning == "the weights are random numbers"
    (one,), (other,) = expected.images, found.images
    assert [each.index for each in one.classes] == [each.index for each in other.classes]
    for this, that in zip(one.classes, other.classes, strict=True):
        assert abs(this.probability - that.probability) <= LIMIT
    (manifest,) = (tmp_path / "timm").glob("*.json")
    content = json.loads(manifest.read_text())
    del content["target"]["adaptations"]
    manifest.write_text(json.dumps(content))
    (other,) = predict(weights, image).images
    assert one.classes[0].probability != pytest.approx(other.classes[0].probability, abs=LIMIT)


def test_only_modules_of_timm_and_torchvision_are_run(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest from anyone can name any callable."""
    convert_graph("mobilenet1.0", tmp_path / "out", random=1, target="timm", options=UNPROVEN)
    (manifest,) = (tmp_path / "out").glob("*.json")
    content = json.loads(manifest.read_text())
    content["target"] |= {"name": "hostile:Network", "arguments": {}}
    manifest.write_text(json.dumps(content))
    (tmp_path / "hostile.py").write_text("raise SystemExit('run')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="hostile:Network: only models of timm and torchvision are run"):
        predict(tmp_path / "out", image)


def edit_module(out: Path, attack: str) -> None:
    """Prepend a statement to the module, and record the SHA-256 of the result in the manifest."""
    (module,) = out.glob("*.py")
    module.write_text(attack + module.read_text())
    (manifest,) = out.glob("*.json")
    content = json.loads(manifest.read_text())
    content["module"]["sha256"] = hashlib.sha256(module.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize("change", ["edited", "missing"])
def test_module_of_a_network_is_made_from_the_recorded_graph(
    change: str, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert_graph(NAME, out, random=1, options=UNPROVEN)
    expected = predict(out, image).images
    (module,) = out.glob("*.py")
    if change == "edited":
        edit_module(out, f"open({str(tmp_path / 'attacked')!r}, 'w')\n")
    else:
        module.unlink()
    assert predict(out, image).images == expected
    assert not (tmp_path / "attacked").exists()


def test_names_of_an_instance_and_other_classes_give_the_same_module(image: Path, tmp_path: Path) -> None:
    network = recorded_graphs.load(NAME)
    arrays = recorded_sources.random_arrays(network, 1)
    few = {name: array[:7] if name.startswith("output.") else array for name, array in arrays.items()}
    variables = {each.name: each.variable.replace("mobilenet0_", "net_") for each in network.parameters}
    for number, parameters in enumerate([arrays, few]):
        params, out = tmp_path / f"{number}.params", tmp_path / str(number)
        with params.open("wb") as stream:
            write_params(stream, {variables[name]: array for name, array in parameters.items()})
        convert_graph(NAME, out, params=params, options=UNPROVEN)
        (module,) = out.glob("*.py")
        module.unlink()
        assert predict(out, image).network.classes == (1000, 7)[number]


def test_part_of_a_network_needs_its_module(image: Path, tmp_path: Path) -> None:
    """The weights are not all of the network's, so its recorded graph does not fit them."""
    nodes = recorded_graphs.load(NAME).graph.nodes
    output = nodes[nodes[-1].inputs[0][0]].name
    convert_graph(NAME, tmp_path / "out", random=1, output=output, options=UNPROVEN)
    (module,) = (tmp_path / "out").glob("*.py")
    module.unlink()
    with pytest.raises(ArtifactError, match=r"missing: this file defines.*\n.*convert mobilenet0\.25 OUT"):
        predict(tmp_path / "out", image)
