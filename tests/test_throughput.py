"""The inference benchmark runs and times only equal networks."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("throughput")


def test_every_library_runs_in_every_round(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/throughput.py"), "--quick", "--json", "out.json"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    document = json.loads((tmp_path / "out.json").read_text())
    here = ["ours", "timm", "torchvision", "ours, fused"]
    more = {"onnxruntime": "onnxruntime, ours fused", "mxnet": "GluonCV, hybridized"}
    installed = [label for package, label in more.items() if importlib.util.find_spec(package)]
    everything = [*here, "ours, optimized", *installed]
    seconds = {setting: [list(turn) for turn in rounds] for setting, rounds in document["seconds"].items()}
    assert seconds == {
        "cpu float32 contiguous_format": [everything] * 2,
        "cpu float32 channels_last": [here] * 2,
    }
    assert torch.__version__.startswith(document["torch"])
    assert all(label in printed for label in everything)


def test_differing_networks_are_not_timed(throughput: ModuleType) -> None:
    ours = torch.arange(10.0)
    throughput.require_same({"ours": ours, "theirs": ours + 1e-3}, limit=1e-2)
    with pytest.raises(SystemExit, match=r"the logits differ, in standard deviations: theirs by 3\.3e-02"):
        throughput.require_same({"ours": ours, "theirs": ours + 0.1}, limit=1e-2)


def test_every_named_network_exists(throughput: ModuleType) -> None:
    for of_timm, of_torchvision in throughput.NAMES.values():
        assert throughput.timm.is_model(of_timm)
        assert not of_torchvision or of_torchvision in throughput.torchvision.models.list_models()
