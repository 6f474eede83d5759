"""Networks exported to ONNX give our logits and those of the Gluon parameters in numpy."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from converter.networks import catalog, matching, synthetic
from converter.references.numpy import NumpyRun
from converter.references.probes import Probe
from resnext_torch import ResNeXt, create_model, fuse

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

if TYPE_CHECKING:
    from types import ModuleType

    from converter.dtypes import Array
    from converter.networks.catalog import Model

# Of float32 logits against numpy's in float64, relative to their standard deviation; measured 3e-7 to 8e-7.
LIMIT = 1e-5
SIZE = 65
NAMES = ["gluon_resnext50_32x4d", "gluon_seresnext50_32x4d", "gluon_resnet50_v1d", "gluon_senet154"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of the exporter
    pytest.mark.usefixtures("onnx_operators"),
]


@pytest.fixture
def export_onnx(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    return importlib.import_module("export_onnx")


def shallow(name: str) -> Model:
    """Return a model with few blocks and groups, and ten classes."""
    model = catalog.find(name)
    config = replace(model.config, depths=(1, 2, 1, 1), num_classes=10)
    return replace(model, config=replace(config, cardinality=min(config.cardinality, 2)))


def random_module(model: Model) -> tuple[ResNeXt, dict[str, Array]]:
    """Return a module with seeded parameters, and these parameters by Gluon's names."""
    params = synthetic.random_params(model.mapping, model.shapes, seed=0)
    state = matching.rename(model.mapping, params, model.shapes, "seed 0")
    module = ResNeXt(model.config).eval()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return module, params


def reference(params: dict[str, Array], probe: Probe) -> Array:
    """Return numpy's logits. Shape: (1, classes)."""
    *_, last = NumpyRun(params, (probe,)).outputs(0)
    return last.array


def largest_difference(path: Path, params: dict[str, Array], count: int) -> float:
    """Return onnxruntime's largest difference from numpy for a number of images, in deviations."""
    probes = [Probe("float64", (SIZE, SIZE), seed) for seed in range(count)]
    expected = np.concatenate([reference(params, probe) for probe in probes])
    images = np.concatenate([probe.input() for probe in probes]).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(["logits"], {"images": images})
    assert result.shape == expected.shape
    return float(np.abs(result - expected).max() / expected.std())


@pytest.mark.parametrize(
    ("name", "fused"), [*((name, False) for name in NAMES), ("gluon_seresnext50_32x4d", True)]
)
def test_exported_network_agrees_with_the_gluon_parameters(
    export_onnx: ModuleType, tmp_path: Path, name: str, *, fused: bool
) -> None:
    module, params = random_module(shallow(name))
    path = tmp_path / "network.onnx"
    export_onnx.export(fuse(module) if fused else module, SIZE, path)
    assert export_onnx.difference(module, SIZE, path) <= export_onnx.LIMIT
    assert largest_difference(path, params, 1) <= LIMIT
    assert largest_difference(path, params, 3) <= LIMIT
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]  # the weights are inside
    running = next(array for array in params if array.endswith("running_mean"))
    params[running] = params[running] + 0.1
    assert largest_difference(path, params, 1) > 10 * LIMIT


def test_program_writes_one_file_and_prints_the_difference(
    export_onnx: ModuleType, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    arguments = ["gluon_resnet18_v1b", "--weights", str(weights), "--out", str(out), "--size", "32"]
    assert export_onnx.main([*arguments, "--fuse"]) <= export_onnx.LIMIT
    assert f"wrote {out}: max error " in capsys.readouterr().out
    (given,) = onnxruntime.InferenceSession(out).get_inputs()
    batch, *shape = given.shape
    assert isinstance(batch, str)  # any number: "n", in torch 2.6 "s0"
    assert (given.name, shape, given.type) == ("images", [3, 32, 32], "tensor(float)")
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_differing_export_is_deleted(
    export_onnx: ModuleType, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export_onnx.export

    def wrong(model: ResNeXt, size: int, path: Path) -> None:
        model.get_parameter("layer2.0.bn1.bias").data += 0.1
        right(model, size, path)
        model.get_parameter("layer2.0.bn1.bias").data -= 0.1

    monkeypatch.setattr(export_onnx, "export", wrong)
    arguments = ["gluon_resnet18_v1b", "--weights", str(weights), "--size", "32"]
    with pytest.raises(
        SystemExit, match=r"the logits differ: max error \S+ \(limit 1e-04\); nothing was written"
    ):
        export_onnx.main([*arguments, "--out", str(tmp_path / "wrong.onnx")])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "gluon_resnet18_v1b.safetensors"
    save_file(create_model("gluon_resnet18_v1b").state_dict(), path)
    return path
