"""Read state dicts from ``.safetensors`` and ``.pth`` files, and verify their SHA-256."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING

import torch

from .weight_files import HASHED, PARAMS_SUFFIX, SUMS, WeightsError, convert_command

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    State = dict[str, Tensor]

STATE_KEYS = ("state_dict", "model")  # of checkpoints, as in timm
NDARRAY_LIST = (0x112).to_bytes(8, "little")  # the first bytes of Gluon's parameters


def load(path: Path) -> State:
    """Return the tensors of a ``.safetensors`` or ``.pth`` file.

    The SHA-256 is verified if the file name or the folder's SHA256SUMS contains it. A ``.pth`` is loaded
    with ``weights_only=True``: no pickle is executed.

    Raises:
        WeightsError: if the file cannot be read, has Gluon's parameters, or its hash is wrong.
    """
    try:
        _require_hash(path)
        _require_converted(path)
        if path.suffix == ".pth":
            return _load_torch(path)
        from safetensors import SafetensorError  # noqa: PLC0415 - not needed for a .pth
        from safetensors.torch import load_file  # noqa: PLC0415 - as above

        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def _require_converted(path: Path) -> None:
    """Refuse Gluon's parameters, also if they are packed.

    Raises:
        WeightsError: if the file has them; names the command that converts them.
    """
    with path.open("rb") as stream:
        is_gluon = stream.read(len(NDARRAY_LIST)) == NDARRAY_LIST
    if is_gluon or PARAMS_SUFFIX in path.suffixes:
        raise WeightsError(
            f"{path}: Gluon parameters, which must be converted first\n{convert_command(path)}"
        )


def _load_torch(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: cannot be loaded with weights_only=True: {reason}") from error
    if isinstance(state, dict):
        state = next((state[key] for key in STATE_KEYS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path}: expected a state dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _require_hash(path: Path) -> None:
    """Verify a file's SHA-256, if its name or the folder's SHA256SUMS contains it.

    Raises:
        WeightsError: if the hash differs.
    """
    expected = _expected_hash(path)
    if not expected:
        return
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if not sha256.startswith(expected):
        raise WeightsError(f"{path}: damaged or renamed: expected SHA-256 {expected}…, found {sha256[:8]}…")


def _expected_hash(path: Path) -> str:
    if match := HASHED.fullmatch(path.name):
        return match["sha256"].lower()
    sums = path.with_name(SUMS)
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    return next((line[:64] for line in lines if line[66:] == path.name), "")
