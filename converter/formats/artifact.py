"""Write an artifact, canonical safetensors bytes under a name with their SHA-256, and its manifest.

The bytes depend only on the tensors and equal those of safetensors' own writer. They are written from
the arrays to a hidden temporary file, hashed at the same time, read back and compared. The file is
renamed last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from converter.dtypes import TO_SAFETENSORS
from converter.errors import ArtifactError
from converter.formats.file_arrays import PIECE, PieceReader
from converter.storage import background, disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.progress import Progress
    from converter.storage.background import BackgroundCall

# One key only: safetensors' own writer writes several in a random order.
METADATA = {"format": "pt"}
HEADER_ALIGNMENT = 8
HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """A written and hashed file under a temporary name.

    Attributes:
        path: the temporary file.
        sha256: the SHA-256 of its bytes.
        size: in bytes.
        dtypes: the types of the weights, without those of PyTorch's counters.
        flushed: done when the file is flushed to disk.
    """

    path: Path
    sha256: str
    size: int
    dtypes: tuple[str, ...]
    flushed: BackgroundCall[None]


@contextlib.contextmanager
def draft(folder: Path, state: Arrays, progress: Progress) -> Iterator[ArtifactDraft]:
    """Write the tensors to a temporary file in ``folder``, and delete it on exit unless published.

    The file is flushed to disk in the background, during verification and proof; ``publish`` waits for
    the flush.

    Raises:
        StorageError: if the file cannot be written.
    """
    with disk.temporary(folder) as path, background.Worker() as flusher:
        # Not "wb": some file systems write a truncated file to disk before they close it.
        with disk.writing(folder), path.open("r+b") as stream:
            sha256, size = _write(stream, state, progress)
        dtypes = dict.fromkeys(str(state[name].dtype) for name in layout(state)[1] if state[name].shape)
        yield ArtifactDraft(path, sha256, size, tuple(dtypes), flusher.submit(partial(disk.flush, path)))


def verify(written: ArtifactDraft, state: Arrays) -> None:
    """Read a draft back: the header with safetensors' own reader, and every byte against the arrays.

    Raises:
        ArtifactError: if the file differs, with the first tensor that does.
        StorageError: if the file cannot be read.
    """
    _verify_header(written.path, state)
    header, order = layout(state)
    with disk.writing(written.path.parent), written.path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError("read-back check failed: the header differs from what was written")
        reader, buffer = PieceReader(), np.empty(PIECE, np.uint8)
        for name in order:
            if not all(_next_bytes_equal(stream, piece, buffer) for piece in reader.pieces(state[name])):
                raise ArtifactError(f"read-back check failed: {name} differs from what was written")
        if stream.read(1):
            raise ArtifactError("read-back check failed: the file is longer than what was written")


def file_name(stem: str, sha256: str, suffix: str = ".safetensors") -> str:
    """Return the file name, with the start of the hash as torch.hub, torchvision and timm expect it."""
    return f"{stem}-{sha256[:HASH_DIGITS]}{suffix}"


def has_hash(name: str) -> bool:
    """Return whether a file name is one that ``file_name`` returns."""
    return re.fullmatch(rf".+-[0-9a-f]{{{HASH_DIGITS}}}\.safetensors", name) is not None


def publish(
    written: ArtifactDraft, destination: Path, manifest: bytes, more: dict[Path, Path] | None = None
) -> Path:
    """Rename a draft to its final name, and write its manifest to the same folder.

    All files are flushed to disk before any is renamed. The manifest is renamed last: a run that is
    killed before that leaves weights without a manifest.

    Args:
        written: the draft.
        destination: its final name.
        manifest: the encoded manifest.
        more: other written files, with their final names.

    Returns:
        The path of the manifest.

    Raises:
        StorageError: if a file cannot be written or renamed.
        ArtifactError: if a folder has the name of a file.
    """
    manifest_path = destination.with_suffix(".json")
    more = more or {}
    for final in (destination, manifest_path, *more.values()):
        with disk.writing(final):
            if final.is_dir():
                raise ArtifactError(f"{final}: cannot be written: a folder has this name")
    with disk.temporary(destination.parent) as path, disk.writing(destination.parent):
        path.write_bytes(manifest)
        for part in (path, *more):
            disk.flush(part)
        written.flushed.result()
        for part, final in more.items():
            part.replace(final)
        written.path.replace(destination)
        path.replace(manifest_path)
        disk.flush_folder(destination.parent)
    return manifest_path


def layout(state: Arrays) -> tuple[bytes, list[str]]:
    """Return the canonical header, and the names in the order of their data: by type, then by name."""
    ranks = list(TO_SAFETENSORS)
    order = sorted(state, key=lambda name: (ranks.index(state[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name in order:
        array, begin = state[name], end
        end += array.nbytes
        header[name] = {
            "dtype": TO_SAFETENSORS[array.dtype],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % HEADER_ALIGNMENT)
    return struct.pack("<Q", len(encoded)) + encoded, order


def _write(stream: BinaryIO, state: Arrays, progress: Progress) -> tuple[str, int]:
    header, order = layout(state)
    stream.write(header)
    digest, done = hashlib.sha256(header), 0
    total = sum(array.nbytes for array in state.values())
    reader = PieceReader()
    hashing = background.done(None)
    with background.Worker() as hasher:
        for name in order:
            for piece in reader.pieces(state[name]):
                hashing.result()  # the reader is about to overwrite the previous piece
                hashing = hasher.submit(partial(digest.update, piece))
                stream.write(piece)
            done += state[name].nbytes
            progress("writing", done, total)
        hashing.result()
    return digest.hexdigest(), len(header) + total


def _next_bytes_equal(stream: BufferedReader, expected: memoryview, buffer: Array) -> bool:
    """Return whether the next bytes of a stream equal ``expected``; they are read into ``buffer``."""
    actual = buffer[: expected.nbytes]
    return stream.readinto(actual.data) == actual.size and np.array_equal(
        actual, np.frombuffer(expected, np.uint8)
    )


def _verify_header(path: Path, state: Arrays) -> None:
    try:
        with disk.writing(path.parent), safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata()
    except SafetensorError as error:
        raise ArtifactError(f"read-back check failed: safetensors rejects the file: {error}") from error
    expected = {name: (TO_SAFETENSORS[array.dtype], list(array.shape)) for name, array in state.items()}
    if {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()} != expected:
        raise ArtifactError(
            "read-back check failed: safetensors reads other names, types or shapes than were written"
        )
    if metadata != METADATA:
        raise ArtifactError(f"read-back check failed: expected metadata {METADATA}, found {metadata}")
