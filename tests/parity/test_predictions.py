"""``predict`` finds in an image what GluonCV finds: SSD, YOLO, CenterNet and FCN, with random parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet_forks
import numpy as np
import pytest
from PIL import Image

from converter.choices import Dataset, Device, PredictionTask
from converter.commands import prediction
from converter.commands.graph_conversion import convert_graph
from converter.parity.options import ParityOptions
from converter.vision import class_lists, placement
from converter.vision.classifier import ClassifierOptions
from converter.vision.graph_prediction import GraphPredictionRequest, GraphPredictions

if TYPE_CHECKING:
    from converter.dtypes import Array

WRITER = Path(__file__).with_name("gluon_predictions.py")
HEIGHT, WIDTH = 120, 200
SIZE = 96  # of the inputs, as in gluon_predictions.py
DETECTORS = ("ssd_512_mobilenet1.0_voc", "yolo3_mobilenet0.25_coco", "center_net_resnet18_v1b_voc")
SEGMENTATION = "fcn_resnet50_ade"
SCORE = 0.01
LIMIT = 1e-4  # of scores
PIXELS = 0.02  # of boxes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    coarse = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / "image.png")
    mxnet_forks.run(WRITER, folder)
    return folder


def image(files: Path) -> Array:
    with Image.open(files / "image.png") as opened:
        return np.array(opened)


def predict(files: Path, name: str, score: float | None = SCORE) -> GraphPredictions:
    out = files / name
    convert_graph(
        files / f"{name}-symbol.json",
        out,
        params=files / f"{name}-0000.params",
        options=ParityOptions("none"),
    )
    request = prediction.PredictRequest(
        options=ClassifierOptions(out, device=Device.cpu),
        images=GraphPredictionRequest(paths=(files / "image.png",), score=score),
        size=(SIZE, SIZE) if name in DETECTORS else None,
    )
    found = prediction.run(request)
    assert isinstance(found, GraphPredictions)
    return found


@pytest.mark.parametrize("name", DETECTORS)
def test_objects_are_those_of_gluoncv(name: str, files: Path) -> None:
    expected = np.load(files / f"{name}.npz")
    predictions = predict(files, name)
    network, (result,) = predictions.network, predictions.images
    place = placement.stretch if network.suppresses else placement.centre
    pixels, placed = place(image(files), network.size)
    inputs = placement.to_input(pixels, network.normalization).numpy()
    np.testing.assert_allclose(inputs, expected["input"], atol=1e-6)
    assert network.suppresses == ("center_net" not in name)
    assert predictions.classes.origin.startswith("COCO," if "coco" in name else "Pascal VOC,")
    ids, scores = (expected[each].reshape(-1) for each in ("ids", "scores"))
    kept = (ids >= 0) & (scores >= SCORE)
    assert len(result.objects) == kept.sum() > 0
    np.testing.assert_allclose(
        [each.score for each in result.objects], np.sort(scores[kept])[::-1], rtol=0, atol=LIMIT
    )
    best = int(np.where(kept, scores, -1).argmax())
    assert result.objects[0].index == ids[best]
    corners = expected["boxes"].reshape(-1, 4)[best]
    np.testing.assert_allclose(result.objects[0].box, placed.box(tuple(corners)), atol=PIXELS)


def test_pixels_have_the_classes_of_gluoncv(files: Path) -> None:
    expected = np.load(files / f"{SEGMENTATION}.npz")
    predictions = predict(files, SEGMENTATION, score=None)
    network, (result,) = predictions.network, predictions.images
    assert (network.task, network.size) == (PredictionTask.segmentation, (SIZE, SIZE))
    inputs, _ = placement.fit(image(files), network.size, network.normalization)
    np.testing.assert_allclose(inputs, expected["input"], atol=1e-5)
    assert predictions.classes.origin.startswith("ADE20K,")
    numbers, counts = np.unique(expected["mask"], return_counts=True)
    shares = dict(zip(numbers.tolist(), (counts / expected["mask"].size).tolist(), strict=True))
    assert {each.index: each.share for each in result.shares} == pytest.approx(shares, abs=1e-3)


def test_class_names_are_those_of_gluoncv(files: Path) -> None:
    for key, names in json.loads((files / "classes.json").read_text()).items():
        dataset, task = key.split()
        assert class_lists.names(Dataset(dataset), PredictionTask(task)) == tuple(names)
