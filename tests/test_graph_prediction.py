"""``predict`` finds objects, segments and classifies with the networks of converted graphs."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import generated_modules
import graph_files
import numpy as np
import pytest
import task_networks
import torch
from graph_building import Network
from PIL import Image
from typer.testing import CliRunner

from converter.choices import Dataset, PredictionTask
from converter.cli.app import app
from converter.commands.graph_conversion import convert_graph
from converter.errors import LabelsError
from converter.parity.options import ParityOptions
from converter.vision import class_lists, detector_heads, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the converted networks and an image of 128×64 pixels, half red, half blue."""
    folder = tmp_path_factory.mktemp("tasks")
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64], pixels[:, 64:] = RED, BLUE
    Image.fromarray(pixels).save(folder / "image.png")
    networks = {
        "ssd": task_networks.detector(),
        "center": task_networks.detector(suppresses=False),
        "segmentation": task_networks.segmentation(),
        "classifier": task_networks.classifier(),
        "softmax": task_networks.classifier(softmax=True),
    }
    for name, network in networks.items():
        task_networks.convert(folder / name, network)
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return shutil.copytree(folder, tmp_path / "copy")


def run(folder: Path, name: str, *options: object, image: str = "image.png") -> Result:
    arguments = [folder / image, "--weights", folder / name / "out", "--device", "cpu", *options]
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], env={"COLUMNS": "120"})


def unwrapped(result: Result) -> str:
    """Return the error without the frame around usage errors."""
    return " ".join(result.stderr.replace("│", " ").split())


def document(folder: Path, name: str, *options: object) -> dict[str, Any]:
    result = run(folder, name, *options, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_objects_have_boxes_in_pixels_of_the_image(folder: Path) -> None:
    found = document(folder, "ssd", "--size", 64)
    (image,) = found.pop("images")
    assert (found["task"], found["input"]) == ("detection", [1, 3, 64, 64])
    assert found["class_names"] == "Pascal VOC, assumed from the number of classes, 20"
    assert (image["size"], image["drawing"]) == ([64, 128], None)
    assert [(each["class"], each["label"]) for each in image["objects"]] == [(6, "car"), (14, "person")]
    assert [each["score"] for each in image["objects"]] == pytest.approx(task_networks.SCORES, abs=1e-5)
    expected = [(2 * left, top, 2 * right, bottom) for left, top, right, bottom in task_networks.BOXES]
    for each, box in zip(image["objects"], expected, strict=True):
        assert each["box"] == pytest.approx(box, abs=1e-4)


def test_detector_without_suppression_sees_the_proportions_of_the_image(folder: Path) -> None:
    """As CenterNet: half as large, between 16 black rows above and below."""
    (image,) = document(folder, "center", "--size", 64)["images"]
    left, top, right, bottom = task_networks.BOXES[1]
    expected = (2 * left, 2 * (top - 16), 2 * right, 64)  # clipped to the image
    assert bottom == 56
    assert image["objects"][1]["box"] == pytest.approx(expected, abs=1e-4)


def test_score_is_the_least_of_the_objects(folder: Path) -> None:
    (image,) = document(folder, "ssd", "--size", 64, "--score", 0.7)["images"]
    assert [each["label"] for each in image["objects"]] == ["car"]
    text = run(folder, "ssd", "--size", 64, "--score", 0.95).stdout
    assert "no object scores at least 0.95" in text


def test_pixels_are_segmented_at_the_size_of_the_graph(folder: Path) -> None:
    found = document(folder, "segmentation")
    assert (found["task"], found["input"]) == ("segmentation", [1, 3, 48, 48])
    assert found["class_names"] == "Pascal VOC, assumed from the number of classes, 21"
    (image,) = found["images"]
    shares = {each["label"]: each["share"] for each in image["classes"]}
    assert shares == pytest.approx({"airplane": 0.5, "bicycle": 0.5}, abs=0.01)
    assert sum(shares.values()) == 1


@pytest.mark.parametrize("name", ["classifier", "softmax"])
def test_probabilities_do_not_depend_on_a_softmax_in_the_graph(name: str, folder: Path) -> None:
    found = document(folder, name, "--top", 2)
    assert (found["task"], found["input"]) == ("classification", [1, 3, 224, 224])
    assert found["class_names"] == "unknown: classes are shown by number"
    (image,) = found["images"]
    expected = torch.arange(4.0).softmax(0)[[3, 2]].tolist()
    assert [each["class"] for each in image["top"]] == [3, 2]
    assert [each["probability"] for each in image["top"]] == pytest.approx(expected, abs=1e-6)


def test_tables_are_printed(folder: Path) -> None:
    lines = run(folder, "ssd", "--size", 64).stdout.splitlines()
    assert lines[0] == "model  net: detection"
    assert lines[1] == "input  64x64, normalized as ImageNet"
    (row,) = [line.split() for line in lines if "person" in line]
    assert row == ["person", "60.00%", "40", "24", "120", "56"]
    assert "50.78%" in run(folder, "segmentation").stdout
    assert "64.39%" in run(folder, "classifier").stdout


def test_boxes_are_drawn_on_the_image(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "ssd", "--size", 64, "--draw", tmp_path / "drawn.png", "--score", 0.7)
    assert f"wrote  {tmp_path / 'drawn.png'}" in result.stdout
    with Image.open(folder / "image.png") as image, Image.open(tmp_path / "drawn.png") as drawing:
        before, after = np.array(image), np.array(drawing)
    assert before.shape == after.shape
    changed = np.argwhere((before != after).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([8, 16], abs=2)
    assert (after[30, 30] == RED).all()


def test_masks_are_drawn_in_a_folder(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "segmentation", "--draw", tmp_path / "new").exit_code == 0
    with Image.open(tmp_path / "new" / "image.png") as drawing:
        pixels = np.array(drawing)
    left, right = pixels[:, :60].reshape(-1, 3), pixels[:, 68:].reshape(-1, 3)
    assert len(np.unique(left, axis=0)) == len(np.unique(right, axis=0)) == 1
    assert (left[0] != right[0]).any()
    assert (left[0] != RED).any()


def test_recorded_input_is_used(tmp_path: Path, folder: Path) -> None:
    """A proof at another size than the default one states the size of the images."""
    network = task_networks.classifier()
    network[1].update(
        {
            name: array.astype(np.float32)
            for name, array in generated_modules.random_parameters(network[0].shapes).items()
        }
    )
    task_networks.convert(tmp_path / "net", network, ParityOptions("numpy", sizes=[40], dtypes=["float64"]))
    shutil.copy(folder / "image.png", tmp_path)
    assert document(tmp_path, "net")["input"] == [1, 3, 40, 40]
    assert document(tmp_path, "net", "--size", 50)["input"] == [1, 3, 50, 50]


def test_graph_that_normalizes_takes_values_from_0_to_255(tmp_path: Path) -> None:
    """As ``gluoncv.utils.export_block`` writes it: images are (n, h, w, 3)."""
    net = Network()
    net.apply("transpose", "first", "data", axes="(0, 3, 1, 2)")
    net.apply("Pooling", "pool", "first", global_pool="True", pool_type="avg", kernel="(1, 1)")
    net.dense("fc", net.apply("Flatten", "flat", "pool"), 3, 2)
    weights = np.array([[0.01, 0.0, 0.0], [0.0, 0.02, 0.03]], np.float32)
    arrays = {"fc_weight": weights, "fc_bias": np.zeros(2, np.float32)}
    shapes = {"data": (1, 40, 40, 3)}
    options = ParityOptions("numpy", dtypes=["float64"])
    task_networks.convert(tmp_path / "net", (net, arrays, ["fc"]), options, shapes)
    Image.new("RGB", (50, 50), (200, 10, 20)).save(tmp_path / "image.png")
    found = document(tmp_path, "net")
    assert found["input"] == [1, 40, 40, 3]
    expected = torch.tensor(weights @ np.array([200, 10, 20], np.float32)).softmax(0).tolist()
    assert [each["probability"] for each in found["images"][0]["top"]] == pytest.approx(expected, abs=1e-5)
    assert "40x40, values from 0 to 255" in run(tmp_path, "net").stdout


def test_grey_images_are_refused(tmp_path: Path, folder: Path) -> None:
    net = graph_files.small_network()
    graph, params = graph_files.save(tmp_path, net, graph_files.parameters(net))
    options = ParityOptions("numpy", sizes=[32], dtypes=["float64"])
    convert_graph(graph, tmp_path / "net/out", params=params, options=options)
    shutil.copy(folder / "image.png", tmp_path)
    result = run(tmp_path, "net")
    assert (result.exit_code, "takes inputs of 1 × 1 × 32 × 32" in result.stderr) == (1, True)


def test_requested_names_are_used(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("\n".join(f"thing {number}" for number in range(20)))
    found = document(folder, "ssd", "--size", 64, "--labels", labels)
    assert found["images"][0]["objects"][0]["label"] == "thing 6"
    assert found["class_names"] == str(labels)
    assert document(folder, "ssd", "--size", 64, "--dataset", "voc")["class_names"] == "Pascal VOC"


REFUSED = {
    "another number of names": (
        "ssd",
        ["--dataset", "coco"],
        1,
        "80 class names, and the network has another number of classes",
    ),
    "a data set without the task": ("ssd", ["--dataset", "citys"], 2, "has no class names for detection"),
    "a task with other outputs": ("ssd", ["--task", "segmentation"], 1, "not those of segmentation"),
    "a score of pixels": ("segmentation", ["--score", "0.3"], 2, "--score requires"),
    "a drawing of classes": ("classifier", ["--draw", "x.png"], 2, "--draw requires"),
    "another graph": ("ssd", ["--symbol", "{folder}/segmentation/net-symbol.json"], 1, "another graph"),
    "a drawing over the image": ("ssd", ["--draw", "{folder}"], 1, "would overwrite an input"),
}


@pytest.mark.parametrize(("name", "options", "status", "message"), REFUSED.values(), ids=REFUSED)
def test_unsuitable_option_is_refused(
    name: str, options: list[str], status: int, message: str, folder: Path
) -> None:
    result = run(folder, name, *(option.format(folder=folder) for option in options))
    assert result.exit_code == status
    assert message in unwrapped(result)


def test_images_of_one_name_are_not_drawn_over_each_other(copy: Path, tmp_path: Path) -> None:
    (copy / "more").mkdir()
    shutil.copy(copy / "image.png", copy / "more")
    arguments = [copy / "more", "--draw", tmp_path / "one.png", "--size", 64]
    result = run(copy, "ssd", *arguments)
    assert (result.exit_code, "there are 2 images" in unwrapped(result)) == (2, True)
    result = run(copy, "ssd", copy / "more", "--draw", tmp_path / "new", "--size", 64)
    assert (result.exit_code, "the same name" in unwrapped(result)) == (2, True)
    assert not (tmp_path / "new").exists()


def test_class_without_a_name_is_refused() -> None:
    classes = class_lists.ClassList(("cat", "dog"), "names.txt")
    assert classes.name(1) == "dog"
    with pytest.raises(LabelsError, match="2 class names, and the network found class 6"):
        classes.name(6)


def forge(out: Path, old: str, new: str) -> Path:
    """Change the module, and its SHA-256 in the manifest."""
    module, (manifest,) = out / "net.py", out.glob("*.json")
    source = module.read_text().replace(old, new, 1)
    assert source != module.read_text()
    module.write_text(source)
    content = json.loads(manifest.read_text())
    content["module"]["sha256"] = hashlib.sha256(source.encode()).hexdigest()
    manifest.write_text(json.dumps(content))
    return module


def test_code_in_a_forged_module_is_not_run(copy: Path, tmp_path: Path) -> None:
    attack = f"import torch\nopen({str(tmp_path / 'attacked')!r}, 'w')\n"
    forge(copy / "ssd/out", "import torch\n", attack)
    result = run(copy, "ssd", "--size", 64)
    assert result.exit_code == 1
    assert "net.py: not run, because it contains code that gluon2torch" in result.stderr
    assert not (tmp_path / "attacked").exists()


def test_graph_next_to_the_weights_replaces_the_module(copy: Path, folder: Path, tmp_path: Path) -> None:
    attack = f"import torch\nopen({str(tmp_path / 'attacked')!r}, 'w')\n"
    forge(copy / "ssd/out", "import torch\n", attack)
    shutil.copy(copy / "ssd/net-symbol.json", copy / "ssd/out")
    found = document(copy, "ssd", "--size", 64)["images"][0]["objects"]
    assert found == document(folder, "ssd", "--size", 64)["images"][0]["objects"]
    assert not (tmp_path / "attacked").exists()


def test_other_module_than_in_the_manifest_is_refused(copy: Path) -> None:
    module = copy / "ssd/out/net.py"
    module.write_text(module.read_text() + "\n")
    result = run(copy, "ssd")
    assert (result.exit_code, "not the module in the manifest" in result.stderr) == (1, True)
    module.unlink()
    result = run(copy, "ssd")
    assert (result.exit_code, "missing: this file defines the network" in result.stderr) == (1, True)
    graph = copy / "ssd/net-symbol.json"
    assert run(copy, "ssd", "--size", 64, "--symbol", graph).exit_code == 0


SHAPES: dict[str, tuple[list[tuple[int, ...]], PredictionTask | None]] = {
    "SSD": ([(1, 9, 1), (1, 9, 1), (1, 9, 4)], PredictionTask.detection),
    "CenterNet": ([(1, 9), (1, 9), (1, 9, 4)], PredictionTask.detection),
    "boxes of another number": ([(1, 9, 1), (1, 9, 1), (1, 8, 4)], None),
    "mixed axes": ([(1, 9), (1, 9, 1), (1, 9, 4)], None),
    "segmentation": ([(1, 19, 64, 64), (1, 19, 64, 64)], PredictionTask.segmentation),
    "features": ([(1, 19, 32, 32)], None),
    "one class": ([(1, 1, 64, 64)], None),
    "classification": ([(1, 10)], PredictionTask.classification),
    "two vectors": ([(1, 10), (1, 10)], None),
    "a video": ([(1, 3, 4, 64, 64)], None),
}


@pytest.mark.parametrize(("shapes", "task"), SHAPES.values(), ids=SHAPES)
def test_task_is_detected_from_shapes(shapes: list[tuple[int, ...]], task: PredictionTask | None) -> None:
    assert tasks.detect(shapes, (64, 64)) is task


WIDTHS = {
    "SSD on VOC": ([84, 126, 126, 84, 16, 24, 24, 16], {20}),
    "SSD on COCO": ([324, 486, 16, 24], {80}),
    "YOLO on VOC": ([75, 75, 75], {20}),
    "YOLO on COCO": ([255, 255, 255], {80}),
    "CenterNet on COCO": ([80, 2, 2], {80}),
    "SSD of one class": ([8, 12, 16, 24], set()),
    "another head": ([64, 32], set()),
    "no convolution": ([], set()),
}


@pytest.mark.parametrize(("widths", "counts"), WIDTHS.values(), ids=WIDTHS)
def test_number_of_classes_follows_from_the_last_convolutions(widths: list[int], counts: set[int]) -> None:
    assert {count for count in (20, 80) if detector_heads.fits(count, widths)} == counts


def test_last_convolutions_are_those_without_another_after_them() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 5, 1), torch.nn.Conv2d(5, 6, 1)
            self.side = torch.nn.Conv2d(5, 7, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.first(x).relu()
            return self.second(x).sort(dim=1).indices, self.side(x)

    assert detector_heads.last_widths(Net(), torch.zeros(1, 3, 8, 8)) == [6, 7]


@pytest.mark.parametrize(
    ("dataset", "task", "count"),
    [
        (Dataset.voc, PredictionTask.detection, 20),
        (Dataset.voc, PredictionTask.segmentation, 21),
        (Dataset.coco, PredictionTask.detection, 80),
        (Dataset.ade20k, PredictionTask.segmentation, 150),
        (Dataset.citys, PredictionTask.segmentation, 19),
        (Dataset.imagenet, PredictionTask.classification, 1000),
        (Dataset.citys, PredictionTask.detection, 0),
    ],
)
def test_data_sets_have_their_numbers_of_classes(dataset: Dataset, task: PredictionTask, count: int) -> None:
    names = class_lists.names(dataset, task)
    assert len(names) == len(set(names)) == count or (count == 1000 and len(names) == count)
