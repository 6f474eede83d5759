"""Accuracy equals that of a plain loop with any number of processes; each image is counted once."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any

import manifests
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.datasets import ImageFolder
from typer import Typer
from typer.testing import CliRunner

from converter.choices import Device, Preprocessing
from converter.cli.evaluate import evaluate as command
from converter.errors import EvaluationError, ImageError
from converter.networks import catalog
from converter.vision import evaluation
from converter.vision.classifier import ClassifierOptions
from converter.vision.evaluation import EvaluationRequest
from resnext_torch import create_model, create_transform, gluon_transform, resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.vision.evaluation import Evaluation

NAME = "gluon_cifar_resnext29_32x4d"  # the smallest model, 20 MB
CLASSES = tuple(f"class{number}" for number in range(10))
IMAGES = 23  # not a multiple of any tested batch size or number of processes
PROGRAM = "import typer; from converter.cli.evaluate import evaluate; typer.run(evaluate)"


@pytest.fixture(scope="module", autouse=True)
def _stopped_fork_server() -> Iterator[None]:
    """Stop the fork server afterwards: it has imported other modules than faults.py needs."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of noise images, with unequal classes."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / CLASSES[number % 10 if number < 20 else 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (33, 40, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Return weights that are partly accurate: the head is fitted to every other image."""
    torch.manual_seed(0)
    model = create_model(NAME).eval()
    transform = create_transform(**resolve_data_config(model))
    samples = ImageFolder(str(folder), transform)
    batch, numbers = (list(column) for column in zip(*samples, strict=True))
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(torch.stack(batch)), pre_logits=True)
    features = features - features.mean(dim=0)
    wanted = torch.nn.functional.one_hot(torch.tensor(numbers), 10).float()
    state = model.state_dict()
    state["fc.weight"] = torch.linalg.pinv(features[::2]).matmul(wanted[::2]).T.contiguous()
    state["fc.bias"] = torch.zeros(10)
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(state, path)
    return path


def evaluate(weights: Path, folder: Path, workers: int = 0, **options: Any) -> Evaluation:  # noqa: ANN401 - options of several types
    return evaluation.evaluate(
        EvaluationRequest(folder, ClassifierOptions(weights, **{"device": Device.cpu, **options}), workers)
    )


def counts(result: Evaluation) -> tuple[int, int, int]:
    return result.images, result.top1_hits, result.top5_hits


def labelled(weights: Path, folder: Path, labels: tuple[str, ...]) -> Path:
    """Write the weights next to a manifest with the given labels."""
    path = folder / weights.name
    path.write_bytes(weights.read_bytes())
    document = manifests.manifest(path, labels=labels, source={**manifests.SOURCE, "official": True})
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


@functools.cache
def plain_loop(weights: Path, folder: Path, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return for how many images the label is the first class, and among the first five."""
    model = create_model(NAME, weights).eval()
    ways: dict[str, Any] = {
        "bicubic": create_transform(**resolve_data_config(model)),
        "gluon": gluon_transform(model),
    }
    first = among_five = 0
    for image, number in ImageFolder(str(folder)):
        with torch.inference_mode():
            ranked = model(ways[preprocessing](image).unsqueeze(0))[0].argsort(descending=True).tolist()
        first += ranked[0] == number
        among_five += number in ranked[:5]
    return first, among_five


@pytest.mark.parametrize("preprocessing", Preprocessing)
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 1), (32, 0)])
def test_counts_equal_those_of_a_plain_loop(
    weights: Path, folder: Path, preprocessing: Preprocessing, batch_size: int, workers: int
) -> None:
    result = evaluate(weights, folder, workers, preprocessing=preprocessing, batch_size=batch_size)
    first, among_five = plain_loop(weights, folder, preprocessing)
    assert counts(result) == (IMAGES, first, among_five)
    assert (result.top1, result.top5) == (100 * first / IMAGES, 100 * among_five / IMAGES)
    assert 0 < first < among_five < IMAGES or preprocessing is Preprocessing.gluon


def test_images_equal_those_of_torchvisions_image_folder(folder: Path) -> None:
    classes, samples = evaluation.list_samples(folder)
    theirs = ImageFolder(str(folder))
    assert classes == theirs.classes
    assert sorted((str(path), number) for path, number in samples) == sorted(theirs.samples)


def torchrun(tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Evaluate with two processes."""
    (tmp_path / "program.py").write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", tmp_path / "program.py"]
    return subprocess.run(
        [sys.executable, *map(str, [*launch, *arguments]), "--batch-size=4", "--device=cpu", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_two_torchrun_processes_agree_with_one(weights: Path, folder: Path, tmp_path: Path) -> None:
    result = torchrun(tmp_path, folder, f"--weights={weights}")
    document = json.loads(result.stdout)  # printed by one of the two processes
    assert document["processes"] == 2
    assert (document["images"], *document["correct"].values()) == counts(evaluate(weights, folder))


def test_failing_process_stops_all_and_shows_the_reason(weights: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "class9" / "19.png").write_text("no image")
    result = torchrun(tmp_path, tmp_path / "data", f"--weights={weights}")
    assert result.returncode == 1
    assert "19.png: not an image, or an unsupported format" in result.stderr
    assert (result.stdout, result.stderr.count("RuntimeError")) == ("", 0)


def test_lost_images_are_detected(weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_batches = evaluation.images.batches  # type: ignore[attr-defined]  # a module's module
    drop_last_batch = lambda *arguments: list(all_batches(*arguments))[:-1]  # noqa: E731 - a line
    monkeypatch.setattr("converter.vision.images.batches", drop_last_batch)
    with pytest.raises(EvaluationError, match="expected 23 images, evaluated 20"):
        evaluate(weights, folder, batch_size=4)


def test_folders_are_matched_to_classes_by_label(weights: Path, folder: Path, tmp_path: Path) -> None:
    plain = evaluate(weights, folder)
    same = evaluate(labelled(weights, tmp_path, CLASSES), folder)
    turned = evaluate(labelled(weights, tmp_path, CLASSES[::-1]), folder)
    assert counts(same) == counts(plain)
    assert counts(turned) != counts(plain)


def test_unmatched_folders_and_labels_are_all_named(weights: Path, folder: Path, tmp_path: Path) -> None:
    path = labelled(weights, tmp_path, ("cat", "dog", *CLASSES[2:]))
    message = (
        r"the subfolders do not match the class names of the weights\n  missing     cat\n  missing     dog\n"
        r"  unexpected  class0\n  unexpected  class1$"
    )
    with pytest.raises(EvaluationError, match=message):
        evaluate(path, folder)


def test_too_few_folders_are_refused(weights: Path, folder: Path, tmp_path: Path) -> None:
    for name in CLASSES[:9]:
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(
        EvaluationError, match="expected 10 subfolders, one per class of the network, found 9"
    ):
        evaluate(weights, tmp_path)
    (tmp_path / CLASSES[9]).symlink_to(folder / CLASSES[9])
    assert evaluate(weights, tmp_path).images == IMAGES


def test_missing_folder_or_one_without_subfolders_is_refused(
    weights: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="missing: no such folder"):
        evaluate(weights, tmp_path / "missing")
    with pytest.raises(EvaluationError, match="class0: expected a subfolder for each class, found none"):
        evaluate(weights, folder / "class0")


def test_classes_without_images_are_all_named(weights: Path, tmp_path: Path) -> None:
    for name in CLASSES[:2]:
        (tmp_path / name).mkdir()
    with pytest.raises(
        ImageError, match=r"class0: no images in this folder; .*\n.*class1: no images in this folder; "
    ):
        evaluate(weights, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_named(weights: Path, tmp_path: Path, workers: int) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_text("no image")
    with pytest.raises(ImageError) as caught:
        evaluate(weights, tmp_path, workers, batch_size=2)
    message = "not an image, or an unsupported format"
    assert str(caught.value) == "\n  ".join(f"{tmp_path / name / 'a.png'}: {message}" for name in CLASSES[:2])


def run(weights: Path, folder: Path, *options: str) -> str:
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(
        app, [str(folder), "--weights", str(weights), *options], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_accuracy_is_shown_with_gluoncvs_published_figures(
    weights: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = evaluate(weights, folder)
    here = ["measured", f"{result.top1:.2f}", f"{result.top5:.2f}"]
    plain = [line.split() for line in run(weights, folder).splitlines() if "." in line]
    assert plain[:-1] == [here]
    assert plain[-1] == ["next", "gluon2torch", "publish", str(weights), "DIR"]
    model = catalog.find(NAME)
    known = replace(model, entry=catalog.Entry(model.entry.gluon, model.entry.layout, top1=96.3, top5=99.9))
    monkeypatch.setattr(catalog, "models", lambda: {NAME: known})
    other = [line.split("  ") for line in run(weights, folder).splitlines() if "." in line]
    assert [cell.strip() for cell in other[1] if cell.strip()] == [
        "published, for other weights",
        "96.30",
        "99.90",
    ]
    official = run(labelled(weights, tmp_path, CLASSES), folder)
    assert "published  " in official
    assert "other weights" not in official
    document = json.loads(run(weights, folder, "--json"))
    assert document["published"] == {"top1": 96.3, "top5": 99.9, "official": False}
    assert document["correct"] == {"top1": result.top1_hits, "top5": result.top5_hits}


def test_network_with_one_logit_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    save_file(create_model(NAME, num_classes=1).state_dict(), path)
    single = tmp_path / "single"
    shutil.copytree(folder / CLASSES[0], single / "cat")
    with pytest.raises(EvaluationError, match="top-1 accuracy is not defined for a network with one logit"):
        evaluate(path, single)
