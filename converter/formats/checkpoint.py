"""Anybody's checkpoint as arrays: ``.safetensors``, ``.pth`` (no pickle is executed), or ``.params``.

What a file is, its first bytes tell, not its name.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from safetensors import SafetensorError, safe_open

from converter import names
from converter.dtypes import BFLOAT16, BY_SAFETENSORS
from converter.errors import CheckpointError
from converter.formats import archives, ndarray_list, npz, pickles
from converter.formats.binary_reader import MAX_DIMENSIONS
from converter.formats.file_arrays import FileArray, SourceFile
from converter.formats.params import open_params, read_params
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, KeysView
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays

WRAPPERS = (
    "state_dict",
    "model",
    "state_dict_ema",
    "model_ema",
)  # under which training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.")  # which DataParallel and torch.compile put before every name
TORCH_SIGNATURES = (npz.SIGNATURE, b"\x80")  # a zip, since torch 1.6, and a pickle, before
LENGTH_BYTES = 8  # of a safetensors' header; its JSON follows
BEGIN_BYTES = LENGTH_BYTES + 1
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of a pickle: what that would have called
# What is raised at files that are damaged, hold something else than tensors, or promise too much.
UNREADABLE = (
    *archives.UNZIPPABLE,
    pickle.UnpicklingError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    RecursionError,
)


class Kind(StrEnum):
    """What a file is: PyTorch's two, Gluon's, and an archive of Gluon's."""

    safetensors = "safetensors"
    torch = "pth"
    params = "params"
    packed = "packed"


def kind(path: Path) -> Kind:
    """Return what a file is.

    Errors: ``CheckpointError`` where it is nothing that can be read, ``SourceError``.
    """
    disk.require_regular(path, CheckpointError)
    try:
        with path.open("rb") as stream:
            begin = stream.read(BEGIN_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    if begin.startswith(npz.SIGNATURE) and begin[LENGTH_BYTES:] == b"{":  # a method that no zip has
        raise CheckpointError(f"{path}: begins as a zip and as a safetensors, and can be read in two ways")
    if begin.startswith(ndarray_list.MAGIC) or (begin.startswith(npz.SIGNATURE) and npz.is_npz(path)):
        return Kind.params
    if archives.kind(path):
        return Kind.packed
    if begin[LENGTH_BYTES:] == b"{":  # before it any length, 0x80 too
        return Kind.safetensors
    if begin.startswith(TORCH_SIGNATURES):
        return Kind.torch
    raise CheckpointError(f"{path}: neither .safetensors nor .pth nor .params: begins with {begin!r}")


def read(path: Path) -> Arrays:
    """Return a checkpoint's arrays by name; those of a file that is neither packed nor a pickle stay in it.

    Errors: ``CheckpointError``, ``ParamsError`` or ``SourceError`` with what cannot be read; also when the
    numbers are.
    """
    readers: dict[Kind, Callable[[Path], Arrays]] = {
        Kind.params: lambda path: open_params(path).arrays,
        Kind.packed: _read_packed,
        Kind.torch: _read_torch,
        Kind.safetensors: _read_safetensors,
    }
    return readers[kind(path)](path)


def _read_safetensors(path: Path) -> Arrays:
    """Return the arrays of a header that safetensors' own reader finds right."""
    storage = SourceFile(path, str(path), CheckpointError)
    try:
        with safe_open(path, framework="np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    begin, offsets = _offsets(storage, slices.keys())

    def stored(name: str) -> FileArray:
        found = slices[name]
        dtype = BY_SAFETENSORS.get(found.get_dtype())
        if dtype is None:
            raise TypeError(f"type {found.get_dtype()}, which is not read")
        shape = tuple(found.get_shape())
        if len(shape) > MAX_DIMENSIONS or max(shape, default=0) > storage.size:
            raise TypeError(f"{len(shape)} dimensions, the longest of {max(shape)}, which numpy has not")
        return FileArray(storage, begin + offsets[name], dtype, shape)

    return _unprefixed(_arrays(path, slices, stored))


class _Entry(msgspec.Struct, frozen=True):
    data_offsets: tuple[int, int] = (0, 0)  # which the metadata lack


def _offsets(storage: SourceFile, expected: KeysView[str]) -> tuple[int, dict[str, int]]:
    """Return where a safetensors file's numbers begin, and by name where each array's do from there on.

    Errors: ``CheckpointError`` where the header is no longer the one that was found right, or has a form that
    safetensors reads and never writes.
    """
    with storage.opened() as stream:
        (length,) = struct.unpack("<Q", stream.read(LENGTH_BYTES))
        header = stream.read(min(length, storage.size))
    try:
        entries = msgspec.json.decode(header, type=dict[str, _Entry | None])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entries = {}
    offsets = {name: entry.data_offsets[0] for name, entry in entries.items() if entry and name in expected}
    if offsets.keys() != expected:
        reason = "its header is of another form than safetensors writes"
        raise CheckpointError(f"{storage.name}: {reason}, or {disk.CHANGED}")
    return LENGTH_BYTES + length, offsets


def _read_packed(path: Path) -> Arrays:
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        archives.unpack(path, unpacked, silent)
        return read_params(unpacked)


def _read_torch(path: Path) -> Arrays:
    """Read a ``.pth`` with torch's restricted reader, which builds tensors and containers alone."""
    import torch  # noqa: PLC0415 - takes more than a second

    try:
        with path.open("rb") as stream, warnings.catch_warnings():  # a path is judged by its ending
            warnings.simplefilter("ignore")  # of what is refused below
            pickles.require_harmless(stream)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = _reason(error)
        raise CheckpointError(f"{path}: cannot be read as a .pth of weights alone: {reason}") from error
    state = _unwrap(path, content)
    if not state:
        raise CheckpointError(f"{path}: a state dict expected, no tensors")
    return _unprefixed(_arrays(path, state, lambda name: _array(state[name])))


def _reason(error: Exception) -> str:
    """Return why torch refuses, in a line and without its advice, which is to trust the file."""
    if called := GLOBAL.search(str(error)):
        return f"it would call {called[1]}; torch.save(model.state_dict(), …) writes one that calls nothing"
    if isinstance(error, pickle.UnpicklingError):
        return "no pickle that torch.save wrote, or a damaged one"
    return names.clipped(str(error).partition("\n")[0]) or "the file is truncated"


def _array(value: Any) -> Array:  # noqa: ANN401 - whatever a state dict holds
    import torch  # noqa: PLC0415 - as above

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a tensor expected, {type(value).__name__} found")
    value = value.detach()
    if (
        value.layout == torch.strided
        and value.nbytes > value.untyped_storage().nbytes()
        and not value.is_meta
    ):
        raise TypeError("a view that repeats its numbers")
    if value.dtype == torch.bfloat16:  # which torch does not give to numpy
        bits: Array = value.view(torch.int16).numpy()
        return bits.view(BFLOAT16)
    array: Array = value.numpy()
    return array


def _arrays(path: Path, found: Iterable[str], take: Callable[[str], AnyArray]) -> dict[str, AnyArray]:
    """Take every array by its name, or refuse with all that are none in numpy: sparse, quantized."""
    arrays: dict[str, AnyArray] = {}
    refused: dict[str, list[str]] = {}
    for name in found:
        try:
            arrays[name] = take(name)
        except (TypeError, AttributeError, RuntimeError, ValueError, OverflowError) as error:
            refused.setdefault(str(error), []).append(name)
    lines = [f"{name}: {error}" for error, group in refused.items() for name in names.collapse(group)]
    if lines:
        headline = f"{path}: not everything in it can be read as an array"
        raise CheckpointError("\n  ".join([headline, *names.shorten(lines)]))
    return arrays


def _unwrap(path: Path, content: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the file holds
    """Return the state dict in what a training script wrote; an empty one where there is none.

    Errors: ``CheckpointError`` where there are several.
    """
    if not isinstance(content, dict):
        return {}
    wrapped = {wrapper: content[wrapper] for wrapper in WRAPPERS if isinstance(content.get(wrapper), dict)}
    if len(wrapped) > 1:
        raise CheckpointError(
            f"{path}: more than one state dict, {' and '.join(wrapped)}; which one is meant?"
        )
    state = next(iter(wrapped.values()), content)
    if strange := [type(name).__name__ for name in state if not isinstance(name, str)]:
        raise CheckpointError(f"{path}: names expected as text, {strange[0]} found")
    return state


def _unprefixed(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the arrays without the prefixes that all their names have."""
    for prefix in PREFIXES * 2:  # in either order
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays
