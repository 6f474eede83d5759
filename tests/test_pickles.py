from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pytest
import torch
from fuzz import hostile
from torch import nn

from converter.errors import CheckpointError
from converter.formats import checkpoint, pickles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITERS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def saved(content: object, *, is_zip: bool) -> io.BytesIO:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
    stream.seek(0)
    return stream


def training_checkpoint() -> dict[str, Any]:
    """Return a training checkpoint: weights, two of them tied, an optimizer's state and a history."""
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    betas = (0.9, 0.999)
    optimizer = {
        "state": {number: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)} for number in range(5)},
        "param_groups": [{"lr": 1e-3, "betas": betas, "params": [number]} for number in range(5)],
    }
    history = {str(number): [{"betas": betas}] * number for number in range(20)}
    return {"state_dict": network.state_dict(), "optimizer": optimizer, "history": history}


@WRITERS
def test_training_checkpoint_is_harmless(*, is_zip: bool) -> None:
    stream = saved(training_checkpoint(), is_zip=is_zip)
    pickles.require_harmless(stream)
    assert stream.tell() == 0
    assert torch.load(stream, weights_only=True)["optimizer"]["state"]


@WRITERS
def test_common_values_besides_weights_are_harmless(*, is_zip: bool) -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.tag = "mine"  # type: ignore[attr-defined]  # as training scripts do
    extras = {"set": {1, 2}, "bytes": b"\xff", "device": torch.device("cpu"), "size": torch.Size([3])}
    stream = saved({"w": weight, "dtype": torch.bfloat16} | extras, is_zip=is_zip)
    pickles.require_harmless(stream)
    assert torch.load(stream, weights_only=True)["set"] == {1, 2}


@WRITERS
def test_thousands_of_tied_weights_are_harmless(*, is_zip: bool) -> None:
    weight = nn.Parameter(torch.ones(2))
    pickles.require_harmless(saved({f"layer{number}": weight for number in range(5000)}, is_zip=is_zip))


STANDS_FOR_MORE = "its pickle expands to too many or too deeply nested objects"
HARMFUL = {
    "doubled": (hostile.legacy(hostile.doubled(20)), STANDS_FOR_MORE),
    "doubled in a zip": (hostile.pth(hostile.doubled(20)), STANDS_FOR_MORE),
    "upper-case member name": (
        hostile.pth(hostile.doubled(20)).replace(b"data.pkl", b"DATA.PKL"),
        STANDS_FOR_MORE,
    ),
    "deep": (hostile.legacy(hostile.nested(101)), STANDS_FOR_MORE),
    "modified memoised object": (
        hostile.legacy(b"\x80\x02]q\x00h\x00h\x00a."),
        "its pickle changes an object that it has already used",
    ),
    "compressed": (
        hostile.pth(b"\x80\x02}.", zipfile.ZIP_DEFLATED),
        r"'a/data\.pkl' is compressed; torch",
    ),
    "overlapping": (hostile.overlapping(), r"its members declare more than the \d+ bytes of the file"),
    "callable": (
        hostile.pth(b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\nJ\x00\x5e\xd0\xb2\x85Rs."),
        r"it calls builtins\.bytearray",
    ),
    "device tensor": (
        hostile.pth(b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n."),
        r"it calls torch\._utils\._rebuild_device_tensor_from_cpu_tensor",
    ),
    "too many operations": (
        hostile.pth(b"\x80\x02](" + b"N" * 2_000_001 + b"e."),
        "its pickle has more than 2,000,000 operations",
    ),
    "duplicate member": (
        hostile.zipped(("a/data.pkl", hostile.doubled(20)), ("a/Data.pkl", b"\x80\x02}.")),
        "two of its members have the same name",
    ),
    "two directories": (
        hostile.two_directories(hostile.pth(hostile.doubled(20)), hostile.pth(b"\x80\x02}.")),
        r"its directory is declared at byte \d+, but is at \d+",
    ),
    "zip comment": (
        hostile.pth(b"\x80\x02}.")[:-2] + b"\x01\x00x",
        "it does not end with the record that torch",
    ),
    "not a zip": (b"PK\x03\x04 and no more", "File is not a zip file"),
    "cut": (b"\x80\x02", "pickle exhausted before seeing STOP"),
    "missing memo entry": (hostile.pth(b"\x80\x02h\x07."), "7"),
    "no mark": (hostile.pth(b"\x80\x02u."), "pop from empty list"),
}


@pytest.mark.parametrize(("content", "message"), HARMFUL.values(), ids=HARMFUL)
def test_pickle_bomb_or_unsafe_pickle_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"cannot be read as a weights-only \.pth: .*{message}"):
        checkpoint.read(path)


@pytest.mark.parametrize("content", [hostile.doubled(10), hostile.nested(90)], ids=["doubled", "deep"])
def test_moderate_sharing_and_depth_are_accepted(content: bytes) -> None:
    pickles.require_harmless(io.BytesIO(hostile.pth(content)))


def test_torch_alone_does_not_refuse_a_pickle_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(hostile.doubled(16))
    harmless: Callable[[BinaryIO], None] = lambda _: None  # noqa: E731 - a one-line stand-in
    monkeypatch.setattr(pickles, "require_harmless", harmless)
    with pytest.raises(CheckpointError) as refused:
        checkpoint.read(path)
    assert "expands to too many" not in str(refused.value)


@pytest.mark.parametrize("name", [3, (1, 2), None])
def test_name_that_is_not_text_is_refused(name: object, tmp_path: Path) -> None:
    torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"expected names of type str, found {type(name).__name__}"):
        checkpoint.read(tmp_path / "a.pth")


def test_transposed_bfloat16_is_a_view(tmp_path: Path) -> None:
    weight = torch.arange(6).to(torch.bfloat16).reshape(2, 3)
    torch.save({"a": weight, "b": weight.t()}, tmp_path / "a.pth")
    values = np.asarray(checkpoint.read(tmp_path / "a.pth")["b"])
    assert values.tolist() == weight.t().tolist()
    assert not values.flags.owndata
    assert not values.flags.c_contiguous
