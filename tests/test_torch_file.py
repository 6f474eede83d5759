from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from serving import serving_folder

from converter.commands import conversion
from converter.dtypes import BFLOAT16
from converter.errors import ArtifactError
from converter.formats import torch_file
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNPROVEN = ParityOptions("none")
NAME = "gluon_cifar_resnext29_32x4d"
STATE = {
    "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.weight": np.arange(4).astype(BFLOAT16),
    "bn1.num_batches_tracked": np.zeros((), np.int64),
}


@pytest.fixture
def server_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a loopback server for the folder ``out``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving_folder(tmp_path / "out") as url:
        yield url


@pytest.fixture
def converted(tmp_path: Path) -> conversion.ConversionResult:
    source = ParamsSource(catalog.find(NAME), seed=0)
    return conversion.run(
        conversion.ConversionRequest(source=source, out=tmp_path / "out", options=UNPROVEN, pth=True)
    )


def test_pth_has_the_arrays_bit_for_bit_and_reproducible_bytes(tmp_path: Path) -> None:
    hashes = []
    for folder in ("a", "b"):
        with torch_file.draft(tmp_path / folder, STATE) as draft:
            state = torch.load(draft.path, weights_only=True)
            hashes.append(draft.sha256)
            assert draft.size == draft.path.stat().st_size
            assert draft.sha256 == hashlib.sha256(draft.path.read_bytes()).hexdigest()
        assert not (tmp_path / folder).exists()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
            name: array.shape for name, array in STATE.items()
        }
        assert torch.equal(state["fc.weight"].view(torch.int16), torch.tensor(STATE["fc.weight"].view("i2")))
    assert hashes[0] == hashes[1]


def test_pth_that_reads_back_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def save_changed(state: dict[str, torch.Tensor], stream: object) -> None:
        save({name: tensor + (name == "conv1.weight") for name, tensor in state.items()}, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "save", save_changed)
    with (
        pytest.raises(ArtifactError, match=r"the \.pth differs from what was written"),
        torch_file.draft(tmp_path, STATE),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_manifest_describes_both_files(converted: conversion.ConversionResult) -> None:
    assert converted.pth is not None
    content = converted.pth.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert converted.pth.name == f"{NAME}.random-{sha256[:8]}.pth"
    record = json.loads(converted.manifest_file.read_text())["artifact"]["pth"]
    assert record == {"file": converted.pth.name, "sha256": sha256, "bytes": len(content)}


def test_torch_hub_loads_the_pth_and_checks_its_hash(
    converted: conversion.ConversionResult, server_url: str, tmp_path: Path
) -> None:
    assert converted.pth is not None
    options = {
        "model_dir": str(tmp_path / "hub"),
        "check_hash": True,
        "progress": False,
        "weights_only": True,
    }
    url = f"{server_url}/{converted.pth.name}"
    state = torch.hub.load_state_dict_from_url(url, **options)  # type: ignore[arg-type]
    model = create_model(NAME)
    model.load_state_dict(state, strict=True)
    ours = create_model(NAME, converted.artifact)
    assert all(torch.equal(state[name], tensor) for name, tensor in ours.state_dict().items())


def test_torch_hub_refuses_another_file_of_its_name(
    converted: conversion.ConversionResult, server_url: str, tmp_path: Path
) -> None:
    assert converted.pth is not None
    content = bytearray(converted.pth.read_bytes())
    content[len(content) // 2] ^= 1
    converted.pth.write_bytes(content)
    options = {
        "model_dir": str(tmp_path / "hub"),
        "check_hash": True,
        "progress": False,
        "weights_only": True,
    }
    with pytest.raises(RuntimeError, match="invalid hash value"):
        torch.hub.load_state_dict_from_url(f"{server_url}/{converted.pth.name}", **options)  # type: ignore[arg-type]


def test_pth_is_written_only_on_request(tmp_path: Path) -> None:
    source = ParamsSource(catalog.find(NAME), seed=0)
    result = conversion.run(conversion.ConversionRequest(source=source, out=tmp_path, options=UNPROVEN))
    assert result.pth is None
    assert result.manifest.artifact.pth is None
    assert not list(tmp_path.glob("*.pth"))


def test_failed_publication_leaves_no_pth(converted: conversion.ConversionResult, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    (out / converted.artifact.name).mkdir(parents=True)
    source = ParamsSource(catalog.find(NAME), seed=0)
    with pytest.raises(ArtifactError, match="cannot be written: a folder has this name"):
        conversion.run(conversion.ConversionRequest(source=source, out=out, options=UNPROVEN, pth=True))
    assert [path.name for path in out.iterdir()] == [converted.artifact.name]
