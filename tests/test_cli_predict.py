from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import manifests
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer import Typer
from typer.testing import CliRunner

from converter.cli.predict import predict
from resnext_torch import create_model

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NAME = "gluon_cifar_resnext29_32x4d"  # the smallest, 20 MB


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = create_model(NAME).state_dict()
    state["fc.bias"][7] += 100
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a [red].png"):
        Image.fromarray(np.zeros((40, 33, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def run(*arguments: object) -> Result:
    app = Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"], env={"COLUMNS": "120"})


def parse(text: str) -> dict[str, Any]:
    """Parse strict JSON, without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


def test_every_image_is_shown_with_its_classes_and_bars(weights: Path, folder: Path) -> None:
    result = run(folder, "--weights", weights, "--top", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == f"model  {NAME}: blocks 3-3-3, cardinality 32, width 4, 10 classes"
    assert lines[1].endswith(f"{os.sep}a [red].png")
    assert lines[5].endswith(f"{os.sep}b.png")
    assert lines[2].split()[:3] == ["7", "7", "100.00%"]
    assert len(lines[2].split()[3]) == 24
    assert lines[9] == f"next   gluon2torch evaluate FOLDER --weights {weights}"
    assert len(lines) == 10


def test_json_is_complete_and_alone_on_stdout(weights: Path, folder: Path) -> None:
    result = run(folder / "b.png", "--weights", weights, "--json", "--preprocessing", "gluon")
    document = parse(result.stdout)
    (image,) = document.pop("images")
    assert document == {
        "task": "classification",
        "model": NAME,
        "weights": str(weights),
        "preprocessing": "gluon",
        "state_dict": {"key": None, "prefix": None, "ignored": []},
        "backend": "torch",
        "device": "cpu",
        "warning": None,
        "input": None,
        "class_names": None,
    }
    assert image["file"] == str(folder / "b.png")
    assert [guess.keys() for guess in image["top"]] == [{"class", "label", "probability"}] * 5
    assert image["top"][0] == {"class": 7, "label": "7", "probability": 1.0}


def test_weights_are_located_in_a_training_checkpoint(weights: Path, folder: Path, tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in load_file(weights).items()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": zeros}, tmp_path / "last.ckpt")
    refused = run(folder / "b.png", "--weights", tmp_path / "last.ckpt")
    assert (refused.exit_code, "--key state_dict.model\n" in refused.stderr) == (1, True)
    result = run(folder / "b.png", "--weights", tmp_path / "last.ckpt", "--key", "state_dict")
    assert "read   state dict state_dict; prefix model. removed from the names\n" in result.stdout
    assert result.stdout.split().count("100.00%") == 1


def test_refusal_names_the_file_and_exits_1(weights: Path, folder: Path) -> None:
    (folder / "c.png").write_text("no image")
    result = run(folder, "--weights", weights, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"refused  {folder / 'c.png'}: not an image, or an unsupported format\n"
    result = run(folder / "b.png", "--weights", folder / "missing.pth")
    assert result.exit_code == 1
    assert "missing.pth: No such file" in result.stderr


@pytest.mark.parametrize(
    "options", [["--top", "0"], ["--batch-size", "0"], ["--preprocessing", "area"], ["--frobnicate"]]
)
def test_usage_error_exits_2(weights: Path, folder: Path, options: list[str]) -> None:
    assert run(folder, "--weights", weights, *options).exit_code == 2
    assert run(folder, "--weights", weights).exit_code == 0


def test_images_and_weights_are_required(weights: Path, folder: Path) -> None:
    assert run("--weights", weights).exit_code == 2
    assert run(folder).exit_code == 2


def test_random_weights_are_warned_about_on_stderr(weights: Path, folder: Path) -> None:
    assert "warning" not in run(folder / "b.png", "--weights", weights).stderr
    source = {**manifests.SOURCE, "file": f"{NAME}.random-0.params"}
    document = manifests.manifest(weights, source=source)
    place = weights.with_suffix(".json")
    place.write_text(json.dumps(document))
    try:
        result = run(folder / "b.png", "--weights", weights, "--json")
    finally:
        place.unlink()
    assert result.stderr == "warning  the weights are random numbers\n"
    assert parse(result.stdout)["warning"] == "the weights are random numbers"
