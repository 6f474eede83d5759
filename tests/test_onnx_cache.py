"""Exports for ``--backend onnxruntime`` are made once, compared with the module, and replaced if damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from converter.errors import ExportError, StorageError
from converter.exports import onnx_cache
from converter.exports.onnx_cache import CacheRequest
from converter.formats import onnx_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from converter.exports.onnx_network import OnnxNetwork
    from converter.formats.program_file import TracedNetwork

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LIMIT = 1e-5  # of outputs near 1; measured 1e-7
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of the exporter
    pytest.mark.usefixtures("onnx_operators"),
]


class Builder:
    """Builds a small network, and counts how often it does."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> nn.Module:
        self.calls += 1
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        return nn.Sequential(*layers).eval()


@pytest.fixture(autouse=True)
def torch_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def request_(builder: Builder, tmp_path: Path) -> CacheRequest:
    return cache_request(builder, tmp_path / "net.safetensors")


def cache_request(builder: Builder, weights: Path) -> CacheRequest:
    weights.write_bytes(b"weights")
    image = np.random.Generator(np.random.PCG64(0)).standard_normal((1, 3, 8, 8)).astype(np.float32)
    return CacheRequest(name="net", weights=weights, definition="Conv", image=image, build=builder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that contains the network."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        onnx_cache.provide(cache_request(Builder(), folder / "net.safetensors"))
    return folder / "torch"


@pytest.fixture
def cached(exported: Path, torch_home: Path, request_: CacheRequest, builder: Builder) -> OnnxNetwork:
    """Return the network from a copy of the cache, which a test may change."""
    shutil.copytree(exported, torch_home)
    network = onnx_cache.provide(request_)
    assert builder.calls == 0
    return network


def require_same(network: OnnxNetwork, builder: Builder, count: int = 3) -> None:
    images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs, expected = network(images), builder()(images)
    assert isinstance(outputs, torch.Tensor)
    assert float((outputs - expected).abs().max()) <= LIMIT


def entries() -> list[str]:
    folder = onnx_cache.cache_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_second_run_takes_the_file_of_the_first(builder: Builder, request_: CacheRequest) -> None:
    steps: list[tuple[str, int, int]] = []
    network = onnx_cache.provide(request_, lambda *step: steps.append(step))
    assert steps == [("exporting to ONNX", 0, 1), ("exporting to ONNX", 1, 1)]
    before = disk.snapshot(network.file)
    again = onnx_cache.provide(request_, lambda *step: steps.append(step))
    assert (builder.calls, len(steps)) == (1, 2)
    assert (disk.snapshot(again.file), again.record) == (before, network.record)
    assert entries() == sorted([network.file.name, f"{network.file.stem}.json"])
    assert network.record.file == network.file.name
    require_same(again, builder)


def test_file_name_has_the_weights_and_the_size(request_: CacheRequest) -> None:
    name = onnx_cache.provide(request_).file.name
    assert name.startswith(f"net-{disk.sha256(request_.weights)}-3x8x8-")


def change_weights(request: CacheRequest) -> CacheRequest:
    request.weights.write_bytes(b"others")
    return request


def change_definition(request: CacheRequest) -> CacheRequest:
    return replace(request, definition="Conv, strides 2")


@pytest.mark.parametrize("change", [change_weights, change_definition])
def test_what_determines_the_export_determines_the_file(
    builder: Builder,
    request_: CacheRequest,
    cached: OnnxNetwork,
    change: Callable[[CacheRequest], CacheRequest],
) -> None:
    assert onnx_cache.provide(change(request_)).file != cached.file
    assert (builder.calls, len(entries())) == (1, 4)


def test_other_version_exports_again(
    builder: Builder, request_: CacheRequest, cached: OnnxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_cache, "__version__", "0.0.1")
    assert onnx_cache.provide(request_).file != cached.file
    assert builder.calls == 1


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def swap_key(file: Path) -> None:
    """Turn an intact entry into one of other weights."""
    record = file.with_suffix(".json")
    document = json.loads(record.read_text())
    document["key"]["weights"] = "0" * 64
    record.write_text(json.dumps(document))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit": flip,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "no file": lambda file: file.unlink(),
    "no record": lambda file: file.with_suffix(".json").unlink(),
    "record is no JSON": lambda file: file.with_suffix(".json").write_bytes(b"\xff{"),
    "record is of another document": lambda file: file.with_suffix(".json").write_text('{"key": 1}'),
    "record is of other weights": swap_key,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_foreign_file_is_replaced(
    builder: Builder, request_: CacheRequest, cached: OnnxNetwork, damage: str
) -> None:
    DAMAGES[damage](cached.file)
    repaired = onnx_cache.provide(request_)
    assert builder.calls == 1
    assert disk.sha256(repaired.file) == repaired.record.sha256
    assert len(entries()) == 2
    require_same(repaired, builder)
    assert onnx_cache.provide(request_).record == repaired.record


def test_weights_in_a_second_file_are_checked(
    builder: Builder, request_: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 100)
    network = onnx_cache.provide(request_)
    assert network.record.data
    data = network.file.with_name(network.record.data.file)
    assert entries() == sorted([network.file.name, f"{network.file.stem}.json", data.name])
    require_same(network, builder)
    assert onnx_cache.provide(request_).file == network.file
    flip(data)
    assert onnx_cache.provide(request_).record == network.record
    assert disk.sha256(data) == network.record.data.sha256


def test_export_that_differs_is_refused_and_not_kept(
    request_: CacheRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx_file.write

    def write_wrong(traced: TracedNetwork, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        write(traced, path, inputs, outputs)
        model = onnx.load(path)
        (weights,) = (each for each in model.graph.initializer if each.dims == [5, 144])
        values = onnx.numpy_helper.to_array(weights).copy()
        values[0] += 1
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
        onnx.save(model, path)

    monkeypatch.setattr(onnx_file, "write", write_wrong)
    message = r"net\.safetensors: the \.onnx computes other outputs than expected, and is not kept\n"
    with pytest.raises(ExportError, match=rf"{message}.*1e-04\n.*\n  try         --backend torch$"):
        onnx_cache.provide(request_)
    assert entries() == []


def test_network_that_cannot_be_traced_is_refused(request_: CacheRequest) -> None:
    class Branches(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(ExportError, match=r"torch\.export cannot trace"):
        onnx_cache.provide(replace(request_, build=lambda: Branches().eval()))
    assert entries() == []


def test_cache_that_cannot_be_written_is_refused(request_: CacheRequest, tmp_path: Path) -> None:
    (tmp_path / "torch").write_text("a file in place of the cache")
    with pytest.raises(StorageError, match="torch"):
        onnx_cache.provide(request_)
