"""Anybody's checkpoint as numpy arrays: ``.safetensors``, ``.pth`` (no pickle is executed) or ``.params``.

What a file is, its first bytes tell, not its name.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from converter import names
from converter.errors import CheckpointError
from converter.params import LIST_MAGIC, read_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from converter.params import Array

WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.")  # which DataParallel and torch.compile put before every name
TORCH_SIGNATURES = (b"PK\x03\x04", b"\x80")  # a zip, since torch 1.6, and a pickle, before
HEADER_BYTES = 9
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of a pickle: what that would have called
MAX_LINES = 20  # of an error
# What torch.load raises at files that are damaged, or that hold something else than tensors.
UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


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
        return _unprefixed(_read_torch(path))
    if begin[8:] == b"{":
        return _unprefixed(_read_safetensors(path))
    raise CheckpointError(f"{path}: neither .safetensors nor .pth nor .params: begins with {begin!r}")


def _read_safetensors(path: Path) -> dict[str, Array]:
    try:
        with safe_open(path, framework="np") as opened:
            return _arrays(path, opened.keys(), opened.get_tensor)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _read_torch(path: Path) -> dict[str, Array]:
    """Read a ``.pth`` with torch's restricted reader, which builds tensors and containers alone."""
    import torch  # noqa: PLC0415 - takes more than a second

    try:
        with path.open("rb") as stream, warnings.catch_warnings():  # a path is judged by its ending
            warnings.simplefilter("ignore")  # of what is refused below
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = _reason(error)
        raise CheckpointError(f"{path}: cannot be read as a .pth of weights alone: {reason}") from error
    state = _unwrap(content)
    if not state:
        raise CheckpointError(f"{path}: a state dict expected, no tensors")
    return _arrays(path, state, lambda name: _array(state[name]))


def _reason(error: Exception) -> str:
    """Return why torch refuses, in a line and without its advice, which is to trust the file."""
    if called := GLOBAL.search(str(error)):
        return f"it would call {called[1]}; torch.save(model.state_dict(), …) writes one that calls nothing"
    if isinstance(error, pickle.UnpicklingError):
        return "no pickle that torch.save wrote, or a damaged one"
    return str(error).partition("\n")[0] or "the file is truncated"


def _array(value: Any) -> Array:  # noqa: ANN401 - whatever a state dict holds
    import torch  # noqa: PLC0415 - as above

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a tensor expected, {type(value).__name__} found")
    array: Array = value.detach().numpy()
    return array


def _arrays(path: Path, found: Iterable[str], take: Callable[[str], Array]) -> dict[str, Array]:
    """Take every array by its name, or refuse with all that are none in numpy: bfloat16, sparse."""
    arrays: dict[str, Array] = {}
    refused: dict[str, list[str]] = {}
    for name in found:
        try:
            arrays[name] = take(name)
        except (TypeError, AttributeError, RuntimeError) as error:
            refused.setdefault(str(error), []).append(name)
    lines = [f"{name}: {error}" for error, group in refused.items() for name in names.collapse(group)]
    if lines:
        more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
        headline = f"{path}: not everything in it can be read as an array"
        raise CheckpointError("\n  ".join([headline, *lines[:MAX_LINES], *more]))
    return arrays


def _unwrap(content: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the file holds
    """Return the state dict in what a training script wrote; an empty one where there is none."""
    candidates = (
        [content[wrapper] for wrapper in WRAPPERS if wrapper in content] if isinstance(content, dict) else []
    )
    state = next((found for found in [*candidates, content] if isinstance(found, dict)), {})
    return {str(name): value for name, value in state.items()}


def _unprefixed(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays without the prefixes that all their names have."""
    for prefix in PREFIXES * 2:  # in either order
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays
