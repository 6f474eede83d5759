"""The output: canonical safetensors bytes under a name that carries their SHA-256, and their manifest.

The bytes are those of safetensors' own writer for the same tensors, and depend on nothing else. They go to a
hidden temporary file, straight from the arrays, hashed on the way; are read back and compared; and take their
final name last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from converter.dtypes import TO_SAFETENSORS
from converter.errors import ArtifactError
from converter.formats.file_arrays import PIECE, PieceReader
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.progress import Progress

# One key alone: with two, safetensors' own writer orders them differently every time.
METADATA = {"format": "pt"}
HEADER_ALIGNMENT = 8
HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """A file that is written and hashed, and has no final name yet; ``flushed`` when it is on the disk.

    ``dtypes`` are the types of its weights, not those of PyTorch's counters.
    """

    path: Path
    sha256: str
    size: int
    dtypes: tuple[str, ...]
    flushed: Future[None]


@contextlib.contextmanager
def draft(folder: Path, state: Arrays, progress: Progress) -> Iterator[ArtifactDraft]:
    """Write the tensors to a temporary file in ``folder``; on leaving it is gone, published or not.

    It goes on to the disk while it is verified and proven; ``publish`` waits for that.
    Errors: ``ArtifactError`` where it cannot be written.
    """
    with disk.temporary(folder) as path, ThreadPoolExecutor(max_workers=1) as flusher:
        # Not "wb": where a file is emptied anew, some systems write all of it out before it is closed.
        with disk.wrap_os_error(folder), path.open("r+b") as stream:
            sha256, size = _write(stream, state, progress)
        dtypes = dict.fromkeys(str(state[name].dtype) for name in layout(state)[1] if state[name].shape)
        yield ArtifactDraft(path, sha256, size, tuple(dtypes), flusher.submit(disk.flush, path))


def verify(written: ArtifactDraft, state: Arrays) -> None:
    """Read a draft back: its header by safetensors' own reader, its every byte against the arrays.

    Errors: ``ArtifactError`` with the first tensor that differs.
    """
    _verify_header(written.path, state)
    header, order = layout(state)
    with disk.wrap_os_error(written.path.parent), written.path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError("read back: the header differs from what was written")
        reader, buffer = PieceReader(), np.empty(PIECE, np.uint8)
        for name in order:
            if not all(_goes_on(stream, piece, buffer) for piece in reader.pieces(state[name])):
                raise ArtifactError(f"read back: {name} differs from what was written")
        if stream.read(1):
            raise ArtifactError("read back: the file is longer than what was written")


def file_name(stem: str, sha256: str, suffix: str = ".safetensors") -> str:
    """Return the name under which torch.hub, torchvision and timm look for a file of this hash."""
    return f"{stem}-{sha256[:HASH_DIGITS]}{suffix}"


def publish(
    written: ArtifactDraft, destination: Path, manifest: dict[str, Any], more: dict[Path, Path] | None = None
) -> Path:
    """Give a draft its final name, and put its manifest beside it; return the manifest's path.

    ``more``: other written files and their final names. All are whole on the disk before any has its name.
    The manifest gets its own last: a run that is killed before that leaves weights and no claim.
    Errors: ``ArtifactError`` where that fails.
    """
    beside = destination.with_suffix(".json")
    more = more or {}
    for final in (destination, beside, *more.values()):
        with disk.wrap_os_error(final):
            if final.is_dir():
                raise ArtifactError(f"{final}: is a folder, where a file is to be written")
    with disk.temporary(destination.parent) as path, disk.wrap_os_error(destination.parent):
        path.write_bytes(manifest_bytes(manifest))
        for part in (path, *more):
            disk.flush(part)
        written.flushed.result()
        for part, final in more.items():
            part.replace(final)
        written.path.replace(destination)
        path.replace(beside)
        disk.flush_folder(destination.parent)
    return beside


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as JSON, keys sorted."""
    return (json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def layout(state: Arrays) -> tuple[bytes, list[str]]:
    """Return the canonical header, and the names in the order of their buffers: by type, then by name."""
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
    with ThreadPoolExecutor(max_workers=1) as hasher:
        hashed = hasher.submit(digest.update, b"")
        for name in order:
            for piece in reader.pieces(state[name]):
                hashed.result()  # before the reader takes its memory again
                hashed = hasher.submit(digest.update, piece)
                stream.write(piece)
            done += state[name].nbytes
            progress("writing", done, total)
        hashed.result()
    return digest.hexdigest(), len(header) + total


def _goes_on(stream: BufferedReader, expected: memoryview, buffer: Array) -> bool:
    """Return whether a stream goes on with these bytes, bit for bit; ``buffer`` is where they are read to."""
    found = buffer[: expected.nbytes]
    return stream.readinto(found.data) == found.size and np.array_equal(
        found, np.frombuffer(expected, np.uint8)
    )


def _verify_header(path: Path, state: Arrays) -> None:
    try:
        with disk.wrap_os_error(path.parent), safe_open(path, framework="np") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            metadata = opened.metadata()
    except SafetensorError as error:
        raise ArtifactError(f"read back: safetensors refuses the file: {error}") from error
    expected = {name: (TO_SAFETENSORS[array.dtype], list(array.shape)) for name, array in state.items()}
    if {name: (part.get_dtype(), part.get_shape()) for name, part in found.items()} != expected:
        raise ArtifactError("read back: safetensors finds other names, types or shapes than were written")
    if metadata != METADATA:
        raise ArtifactError(f"read back: the metadata {METADATA} expected, {metadata} found")
