"""``predict`` and ``evaluate`` give the same results with ``--backend onnxruntime`` as with torch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import task_networks
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands.graph_conversion import convert_graph
from converter.exports import onnx_cache
from converter.formats import onnx_file
from converter.parity.options import ParityOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from typer.testing import Result

    from converter.formats.program_file import TracedNetwork

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

NAME = "gluon_cifar_resnext29_32x4d"  # the smallest, 20 MB
LIMIT = 1e-5  # of probabilities; measured 1e-7
PROGRAM = """
import sys
from converter.cli.app import app
try:
    app(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of the exporter
    pytest.mark.usefixtures("onnx_operators"),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the tests a cache of their own, so that each network is exported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield onnx_cache.cache_folder()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights with random statistics, whose class scores differ between images."""
    torch.manual_seed(0)
    model = create_model(NAME)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.get_parameter("fc.weight"), std=0.1)
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a subfolder of one image for each class."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.Generator(np.random.PCG64(0))
    for number in range(10):
        (folder / str(number)).mkdir()
        pixels = generator.integers(0, 256, (40, 33, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(number) / "image.png")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def document(*arguments: object, backend: str) -> dict[str, Any]:
    result = run(*arguments, "--backend", backend, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.pop("backend") == backend
    assert found.pop("device")
    return found


def require_close(one: Any, other: Any) -> None:  # noqa: ANN401 - JSON
    """Require equal documents, but for roundings of numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            require_close(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for this, that in zip(one, other, strict=True):
            require_close(this, that)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=LIMIT, rel=LIMIT)
    else:
        assert one == other


@pytest.mark.parametrize("batch_size", [1, 4])
def test_predictions_are_those_of_torch(weights: Path, images: Path, batch_size: int) -> None:
    arguments = ("predict", images, "--weights", weights, "--batch-size", batch_size, "--top", 10)
    expected = document(*arguments, backend="torch")
    require_close(document(*arguments, backend="onnxruntime"), expected)
    assert len({image["top"][0]["probability"] for image in expected["images"]}) == 10


def test_accuracy_is_that_of_torch(weights: Path, images: Path) -> None:
    arguments = ("evaluate", images, "--weights", weights, "--batch-size", 4)
    expected = document(*arguments, backend="torch")
    assert document(*arguments, backend="onnxruntime") == expected
    assert 0 < expected["correct"]["top5"] < 10


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_file_and_its_comparison_are_shown(weights: Path, images: Path, cache: Path, command: str) -> None:
    text = run(command, images, "--weights", weights, "--backend", "onnxruntime").stdout
    (line,) = (line for line in text.splitlines() if line.startswith("onnx"))
    (file,) = cache.glob(f"{NAME}-*.onnx")
    record = json.loads(file.with_suffix(".json").read_text())["export"]
    assert line.split(maxsplit=1)[1] == f"{file}: outputs agree with torch to {record['relative']:.1e}"
    assert 0 < record["relative"] < record["limit"]
    assert "\nonnx" not in run(command, images, "--weights", weights).stdout


def test_second_run_does_not_import_the_exporter(weights: Path, images: Path) -> None:
    arguments = ["predict", str(images), "--weights", str(weights), "--backend", "onnxruntime"]
    assert run(*arguments).exit_code == 0
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    imported = set(done.stderr.split())
    assert "onnxruntime" in imported
    exporter = {"onnx", "onnxscript", "torch.onnx._internal.exporter._core"}
    assert not (exporter | {"resnext_torch.resnext"}) & imported


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (task_networks.classifier(), ["--size", "64"]),
        (task_networks.detector(suppresses=False), ["--size", "64"]),
        (task_networks.segmentation(), []),
    ],
    ids=["classification", "detection", "segmentation"],
)
def test_converted_graphs_give_the_results_of_torch(
    network: Any,  # noqa: ANN401 - a graph, its arrays and its outputs
    options: list[str],
    images: Path,
    tmp_path: Path,
) -> None:
    task_networks.convert(tmp_path, network)
    arguments = ("predict", images / "0", "--weights", tmp_path / "out", *options)
    expected = document(*arguments, backend="torch")
    require_close(document(*arguments, backend="onnxruntime"), expected)


def test_graph_that_onnx_cannot_express_is_refused(images: Path, tmp_path: Path, cache: Path) -> None:
    """torch cannot export the stable sort of a non-maximum suppression."""
    task_networks.convert(tmp_path, task_networks.detector())
    before = sorted(cache.iterdir())
    arguments = ("predict", images / "0", "--weights", tmp_path / "out", "--size", 64)
    result = run(*arguments, "--backend", "onnxruntime")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "torch cannot write the network as ONNX" in result.stderr
    assert result.stderr.endswith("  try         --backend torch\n")
    assert sorted(cache.iterdir()) == before
    assert run(*arguments).exit_code == 0


@pytest.mark.parametrize("target", [None, "torchvision"])
def test_networks_of_gluoncv_give_the_results_of_torch(
    target: str | None, images: Path, tmp_path: Path
) -> None:
    if target:
        pytest.importorskip(target)
    options = ParityOptions("none")
    convert_graph("squeezenet1.1", tmp_path / "out", random=1, target=target, options=options)
    arguments = ("predict", images / "0", "--weights", tmp_path / "out")
    expected = document(*arguments, backend="torch")
    require_close(document(*arguments, backend="onnxruntime"), expected)


def test_differing_export_is_refused(
    weights: Path, images: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("predict", images, "--weights", weights, "--backend", "onnxruntime")
    assert run(*arguments).exit_code == 0
    (right,) = cache.glob(f"{NAME}-*.onnx")

    def write_wrong(_: TracedNetwork, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        model = onnx.load(right)
        assert ([each.name for each in model.graph.input], [each.name for each in model.graph.output]) == (
            [*inputs],
            [*outputs],
        )
        last = next(each for each in model.graph.initializer if list(each.dims) == [10])
        values = onnx.numpy_helper.to_array(last) + np.float32(0.1)
        last.CopyFrom(onnx.numpy_helper.from_array(values, last.name))
        onnx.save(model, path)

    monkeypatch.setattr(onnx_file, "write", write_wrong)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the .onnx computes other outputs than expected, and is not kept" in result.stderr
    assert result.stderr.endswith("  try         --backend torch\n")
    assert [*(tmp_path / "torch").rglob("*.*")] == []


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_gpu_requires_torch(weights: Path, images: Path, command: str) -> None:
    arguments = (command, images, "--weights", weights, "--device", "cuda")
    result = run(*arguments, "--backend", "onnxruntime")
    assert result.exit_code == 2
    assert "--device cuda requires --backend torch" in result.stderr
    assert run(command, images, "--weights", weights, "--backend", "tensorrt").exit_code == 2


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_missing_package_names_the_extra(
    weights: Path, images: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run(command, images, "--weights", weights, "--backend", "onnxruntime")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "refused  --backend onnxruntime needs onnxruntime, which cannot be found\n"
        '  try         pip install "gluon2torch[onnx]"\n'
    )
    assert run(command, images, "--weights", weights).exit_code == 0
