"""Anybody's checkpoint as numpy arrays: ``.safetensors``, ``.pth`` (no pickle is executed) or ``.params``.

What a file is, its first bytes tell, not its name.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from converter.errors import CheckpointError
from converter.params import LIST_MAGIC, read_params

if TYPE_CHECKING:
    from pathlib import Path

    from converter.params import Array

WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.")  # which DataParallel and torch.compile put before every name
TORCH_SIGNATURES = (b"PK\x03\x04", b"\x80")  # a zip, since torch 1.6, and a pickle, before
HEADER_BYTES = 9


def read(path: Path) -> dict[str, Array]:
    """Read a checkpoint's arrays by name.

    Errors: ``CheckpointError`` or ``ParamsError`` with what cannot be read.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(HEADER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    if begin.startswith(struct.pack("<Q", LIST_MAGIC)):
        return read_params(path)
    if begin.startswith(TORCH_SIGNATURES):
        return _read_torch(path)
    if begin[8:] == b"{":
        return _read_safetensors(path)
    raise CheckpointError(f"{path}: neither .safetensors nor .pth nor .params: begins with {begin!r}")


def _read_safetensors(path: Path) -> dict[str, Array]:
    try:
        with safe_open(path, framework="np") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, TypeError, OSError) as error:  # TypeError: a type that numpy lacks
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _read_torch(path: Path) -> dict[str, Array]:
    """Read a ``.pth`` with torch's restricted reader, which builds tensors and containers alone."""
    import torch  # noqa: PLC0415 - takes more than a second

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a .pth of weights alone: {reason}") from error
    state = _unwrap(content)
    strange = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange or not state:
        found = f"not tensors: {', '.join(strange[:5])}" if strange else "no tensors"
        raise CheckpointError(f"{path}: a state dict expected, {found}")
    try:
        return {_strip(str(name)): tensor.detach().numpy() for name, tensor in state.items()}
    except (TypeError, RuntimeError) as error:  # a type that numpy lacks, or a sparse tensor
        raise CheckpointError(f"{path}: {error}") from error


def _unwrap(content: Any) -> dict[Any, Any]:  # noqa: ANN401 - whatever the file holds
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            return dict(content[wrapper])
    return dict(content) if isinstance(content, dict) else {}


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
