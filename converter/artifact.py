"""The output: canonical safetensors bytes under a name that carries their SHA-256, and their manifest.

The bytes are those of safetensors' own writer for the same tensors, and depend on nothing else. They go to a
hidden temporary file, straight from the arrays, hashed on the way; are read back and compared; and take their
final name last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from converter.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.params import Array
    from converter.progress import Progress

# One key alone: with two, safetensors' own writer orders them differently every time.
METADATA = {"format": "pt"}
# In the order in which safetensors lays types out, the widest first, so that each buffer is aligned.
DTYPES = {np.dtype(np.int64): "I64", np.dtype(np.float32): "F32"}
HEADER_ALIGNMENT = 8
HASH_DIGITS = 8
CHUNK = 1 << 16  # words compared at once: in cache, and never a second copy of a tensor
TEMPORARY = ".convert-"


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is written and hashed, and has no final name yet; ``flushed`` when it is on the disk."""

    path: Path
    sha256: str
    size: int
    flushed: Future[None]


@contextlib.contextmanager
def draft(folder: Path, state: dict[str, Array], progress: Progress) -> Iterator[Draft]:
    """Write the tensors to a temporary file in ``folder``; on leaving it is gone, published or not.

    It goes on to the disk while it is verified and proven; ``publish`` waits for that.
    Errors: ``ArtifactError`` where it cannot be written.
    """
    with _temporary(folder) as path, ThreadPoolExecutor(max_workers=1) as flusher:
        with _explained(folder), path.open("wb") as stream:
            sha256, size = _write(stream, state, progress)
        yield Draft(path, sha256, size, flusher.submit(_flush, path))


def verify(written: Draft, state: dict[str, Array]) -> None:
    """Read a draft back: its header by safetensors' own reader, its every byte against the arrays.

    Errors: ``ArtifactError`` with the first tensor that differs.
    """
    _verify_header(written.path, state)
    header, order = layout(state)
    with _explained(written.path.parent), written.path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError("read back: the header differs from what was written")
        for name in order:
            if not _reads_back(stream, state[name]):
                raise ArtifactError(f"read back: {name} differs from what was written")
        if stream.read(1):
            raise ArtifactError("read back: the file is longer than what was written")


def file_name(stem: str, sha256: str) -> str:
    """Return the name under which torch.hub, torchvision and timm look for a file of this hash."""
    return f"{stem}-{sha256[:HASH_DIGITS]}.safetensors"


def publish(written: Draft, destination: Path, manifest: dict[str, Any]) -> Path:
    """Give a draft its final name, and put its manifest beside it; return the manifest's path.

    Both are whole on the disk before either has its name.
    Errors: ``ArtifactError`` where that fails.
    """
    beside = destination.with_suffix(".json")
    for final in (destination, beside):
        if final.is_dir():
            raise ArtifactError(f"{final}: is a folder, where a file is to be written")
    with _temporary(destination.parent) as path, _explained(destination.parent):
        path.write_bytes(manifest_bytes(manifest))
        _flush(path)
        written.flushed.result()
        written.path.replace(destination)
        path.replace(beside)
        _flush_folder(destination.parent)
    return beside


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; its folder is made if need be.

    Errors: ``ArtifactError``.
    """
    with _temporary(path.parent) as part, _explained(path):
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as JSON, keys sorted."""
    return (json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def layout(state: dict[str, Array]) -> tuple[bytes, list[str]]:
    """Return the canonical header, and the names in the order of their buffers: by type, then by name."""
    ranks = list(DTYPES)
    order = sorted(state, key=lambda name: (ranks.index(state[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name in order:
        array, begin = state[name], end
        end += array.nbytes
        header[name] = {
            "dtype": DTYPES[array.dtype],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % HEADER_ALIGNMENT)
    return struct.pack("<Q", len(encoded)) + encoded, order


def _write(stream: BinaryIO, state: dict[str, Array], progress: Progress) -> tuple[str, int]:
    header, order = layout(state)
    stream.write(header)
    digest, done = hashlib.sha256(header), 0
    total = sum(array.nbytes for array in state.values())
    for name in order:
        buffer = state[name].data
        stream.write(buffer)
        digest.update(buffer)
        done += buffer.nbytes
        progress("writing", done, total)
    return digest.hexdigest(), len(header) + total


def _reads_back(stream: BinaryIO, array: Array) -> bool:
    """Return whether the stream goes on with the array's bytes, bit for bit."""
    expected = array.reshape(-1).view(np.uint32)  # every type here has whole words
    chunks = (expected[begin : begin + CHUNK] for begin in range(0, expected.size, CHUNK))
    return all(_equal(stream.read(chunk.nbytes), chunk) for chunk in chunks)


def _equal(found: bytes, expected: Array) -> bool:
    return len(found) == expected.nbytes and np.array_equal(np.frombuffer(found, np.uint32), expected)


def _verify_header(path: Path, state: dict[str, Array]) -> None:
    try:
        with safe_open(path, framework="np") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            metadata = opened.metadata()
    except SafetensorError as error:
        raise ArtifactError(f"read back: safetensors refuses the file: {error}") from error
    expected = {name: (DTYPES[array.dtype], list(array.shape)) for name, array in state.items()}
    if {name: (part.get_dtype(), part.get_shape()) for name, part in found.items()} != expected:
        raise ArtifactError("read back: safetensors finds other names, types or shapes than were written")
    if metadata != METADATA:
        raise ArtifactError(f"read back: the metadata {METADATA} expected, {metadata} found")


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Make an empty hidden file in ``folder``, and remove it unless it has been renamed."""
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{TEMPORARY}{secrets.token_hex(8)}.part"
        path.touch(exist_ok=False)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _flush(path: Path) -> None:
    """Return when the file's bytes are on the disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the renames last, where system and file system can (Windows and some network drives cannot)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
