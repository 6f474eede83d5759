"""Read the arrays of a checkpoint: ``.safetensors``, ``.pth`` (no code is executed) or ``.params``.

The format is detected from the first bytes, not from the file name.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from converter import names
from converter.dtypes import BFLOAT16, BY_SAFETENSORS
from converter.errors import CheckpointError, NoStateDictError
from converter.formats import archives, detect, pickles, state_dicts, torch_package
from converter.formats.binary_reader import MAX_DIMENSIONS
from converter.formats.detect import LENGTH_BYTES
from converter.formats.file_arrays import FileArray, SourceFile
from converter.formats.kinds import GLUON, PACKED, PYTORCH, Kind
from converter.formats.params import open_params
from converter.formats.state_dicts import TOP_LEVEL
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, KeysView
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.formats.state_dicts import Location, NetworkNames

GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of a pickle: the function that it calls
# Exceptions if a file is damaged, contains anything but tensors, or declares excessive sizes.
UNREADABLE = (
    *detect.UNZIPPABLE,
    pickle.UnpicklingError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The arrays of a checkpoint by name, and where they are in the file."""

    arrays: Arrays
    location: Location = TOP_LEVEL


def no_key(path: Path, key: str) -> NoStateDictError:
    """Return the error about a key for Gluon parameters, which have none."""
    return NoStateDictError(f"{path}: has no state dict {key}: it is a .params file; leave out --key")


def read(path: Path) -> Arrays:
    """Return a checkpoint's arrays by name.

    Arrays of ``.safetensors`` and ``.params`` files stay on disk, except compressed ones; reading their
    values raises the same errors.

    Raises:
        CheckpointError: if a ``.safetensors`` or ``.pth`` file is malformed, or the format is unknown.
        ParamsError: if a ``.params`` file is malformed.
        SourceError: if an archive is malformed.
        StorageError: if the file cannot be read, or there is no room to unpack an archive.
    """
    return load(path).arrays


def load(path: Path, key: str | None = None, networks: Collection[NetworkNames] = ()) -> Checkpoint:
    """Return a checkpoint's arrays by name, as ``read``, and where they are in the file.

    Args:
        path: the file.
        key: the key of the state dict, None to search for it.
        networks: the networks that are searched for, by their names.

    Raises:
        ConversionError: as ``read``; a CheckpointError also if there are several state dicts, or none under
            the key.
    """
    kind = detect.kind(path)
    if kind in GLUON | PACKED:
        if key is not None:
            raise no_key(path, key)
        return Checkpoint(open_params(path).arrays if kind in GLUON else _read_packed(path))
    if kind not in {*PYTORCH, Kind.damaged_zip}:  # whose reader reports what is damaged
        raise CheckpointError(detect.refusal(path, kind))
    content = {**_read_safetensors(path)} if kind is Kind.safetensors else _read_torch(path)
    state, location = state_dicts.locate(content, str(path), key, networks)
    if kind is Kind.safetensors:
        return Checkpoint(state, location)
    if not state:
        raise CheckpointError(f"{path}: expected a state dict, found no tensors")
    return Checkpoint(_arrays(path, state, lambda name: _array(state[name])), location)


def _read_safetensors(path: Path) -> Arrays:
    """Return the arrays of a file whose header safetensors' own reader accepts."""
    storage = SourceFile(path, str(path))
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    begin, offsets = _offsets(storage, slices.keys())

    def file_array(name: str) -> FileArray:
        part = slices[name]
        dtype = BY_SAFETENSORS.get(part.get_dtype())
        if dtype is None:
            raise TypeError(f"unsupported type {part.get_dtype()}")
        shape = tuple(part.get_shape())
        if len(shape) > MAX_DIMENSIONS or max(shape, default=0) > storage.size:
            raise TypeError(f"{len(shape)} dimensions of up to {max(shape)} elements are not supported")
        return FileArray(storage, begin + offsets[name], dtype, shape)

    return _arrays(path, slices, file_array)


class _Entry(msgspec.Struct, frozen=True):
    data_offsets: tuple[int, int] = (0, 0)  # absent in __metadata__


def _offsets(storage: SourceFile, expected: KeysView[str]) -> tuple[int, dict[str, int]]:
    """Return the offset of a safetensors file's data, and each array's offset in the data by name.

    Raises:
        CheckpointError: if the header has changed since it was validated, or has a form that safetensors
            reads but never writes.
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
        reason = "its header has a form that safetensors does not write"
        raise CheckpointError(f"{storage.name}: {reason}, or {disk.CHANGED}")
    return LENGTH_BYTES + length, offsets


def _read_packed(path: Path) -> Arrays:
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        archives.unpack(path, unpacked, silent)
        arrays = open_params(unpacked, name=str(path)).arrays
        return {name: np.asarray(array) for name, array in arrays.items()}


def _read_torch(path: Path) -> dict[str, Any]:
    """Read a ``.pth`` with torch's restricted unpickler, which builds only tensors and containers.

    ``argparse.Namespace``, which keeps a training program's options, is built too.

    Raises:
        CheckpointError: if the file is malformed, or contains anything but tensors.
        TorchUnavailableError: if torch is not installed.
    """
    torch_package.require_torch(f"{path}: a .pth")
    import torch  # noqa: PLC0415 - the import takes more than a second

    try:
        with (
            path.open("rb") as stream,  # torch interprets a path's suffix
            warnings.catch_warnings(),
            torch.serialization.safe_globals([argparse.Namespace]),
        ):
            warnings.simplefilter("ignore")  # about content that is refused below
            pickles.require_harmless(stream)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = _reason(error)
        raise CheckpointError(f"{path}: cannot be read as a weights-only .pth: {reason}") from error
    return content if isinstance(content, dict) else {}


def _reason(error: Exception) -> str:
    """Return torch's reason for a refusal in one line, without its advice to trust the file."""
    if called := GLOBAL.search(str(error)):
        return f"it calls {called[1]}; save it with torch.save(model.state_dict(), …) instead"
    if isinstance(error, pickle.UnpicklingError):
        return "not a pickle written by torch.save, or damaged"
    return names.clipped(str(error).partition("\n")[0]) or "the file is truncated"


def _array(value: Any) -> Array:  # noqa: ANN401 - any value in a state dict
    import torch  # noqa: PLC0415 - as above

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"expected a tensor, found {type(value).__name__}")
    value = value.detach()
    if (
        value.layout == torch.strided
        and value.nbytes > value.untyped_storage().nbytes()
        and not value.is_meta
    ):
        raise TypeError("an expanded view, which is larger than its storage")
    if value.dtype == torch.bfloat16:  # torch does not convert it to numpy
        bits: Array = value.view(torch.int16).numpy()
        return bits.view(BFLOAT16)
    array: Array = value.numpy()
    return array


def _arrays(path: Path, keys: Iterable[str], load: Callable[[str], AnyArray]) -> dict[str, AnyArray]:
    """Load every array by its name.

    Raises:
        CheckpointError: if numpy cannot represent some, such as sparse or quantized tensors; lists all.
    """
    arrays: dict[str, AnyArray] = {}
    failures: dict[str, list[str]] = {}
    for name in keys:
        try:
            arrays[name] = load(name)
        except (TypeError, AttributeError, RuntimeError, ValueError, OverflowError) as error:
            failures.setdefault(str(error), []).append(name)
    lines = [f"{name}: {error}" for error, group in failures.items() for name in names.collapse(group)]
    if lines:
        headline = f"{path}: some entries cannot be read as arrays"
        raise CheckpointError("\n  ".join([headline, *names.shorten(lines)]))
    return arrays
