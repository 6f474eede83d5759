"""Conversion back to GluonCV: its own files round-trip byte for byte, and outputs equal PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from converter.commands import reverse_conversion
from converter.errors import ParityError
from converter.formats.params import load_params
from converter.networks import catalog
from converter.parity import execution
from converter.parity.options import ParityOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from converter.dtypes import Array
    from resnext_torch import Config

UNPROVEN, PROVEN = ParityOptions("none"), ParityOptions("gluon")
PROVEN_MODELS = ["gluon_resnext50_32x4d", "gluon_seresnext50_32x4d", "gluon_resnet50_v1d"]
RANGES = {"weight": (0.5, 1.0), "bias": (-0.2, 0.2), "running_mean": (-0.2, 0.2), "running_var": (0.7, 1.4)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that is emptied after each test: all files together take 5 GB."""
    path = tmp_path / "files"
    path.mkdir()
    yield path
    for file in path.iterdir():
        file.unlink()


def randomized(name: str) -> nn.Module:
    """Return a network whose BatchNorms hold random values, unlike those of a fresh network."""
    torch.manual_seed(2026)
    module = create_model(name)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            state = layer.state_dict()
            layer.load_state_dict(
                state | {role: state[role].uniform_(*limits) for role, limits in RANGES.items()}
            )
    return module


@pytest.mark.parametrize("name", PROVEN_MODELS)
def test_pytorch_network_is_proven_in_gluoncv(name: str, folder: Path) -> None:
    module = randomized(name)
    torch.save({"state_dict": module.state_dict()}, folder / "trained.pth")
    request = reverse_conversion.ToGluonRequest(
        weights=folder / "trained.pth", out=folder / "back.params", options=PROVEN
    )
    result = reverse_conversion.run(request)
    assert (result.name, result.parity.proven, result.parity.reference) == (name, True, "gluon")
    assert [check.dtype for check in result.parity.checks] == ["float32", "float64"]
    head = load_params(folder / "back.params")[catalog.find(name).mapping.to_source()["fc.weight"]]
    assert torch.equal(torch.tensor(head), module.get_parameter("fc.weight").detach())


def test_network_that_differs_from_gluoncv_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: our module with a misplaced stride behind the same tensors."""
    module = randomized(PROVEN_MODELS[0])
    torch.save(module.state_dict(), folder / "trained.pth")
    stream = execution.stream

    def stream_otherwise(state: dict[str, Array], config: Config) -> nn.Module:
        changed_module = stream(state, config)
        one, other = (vars(changed_module.get_submodule(f"layer2.0.conv{number}")) for number in (1, 2))
        one["stride"], other["stride"] = other["stride"], one["stride"]
        return changed_module

    monkeypatch.setattr(execution, "stream", stream_otherwise)
    request = reverse_conversion.ToGluonRequest(
        weights=folder / "trained.pth", out=folder / "back.params", options=PROVEN
    )
    with pytest.raises(ParityError, match=r"first mismatch  features\.5\.0\.body\.0 → layer2\.0\.conv1 "):
        reverse_conversion.run(request)
    assert [path.name for path in folder.iterdir()] == ["trained.pth"]
