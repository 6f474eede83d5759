"""Export networks to ONNX once, and keep the files in torch's cache.

An entry is an ONNX file and a record next to it: what determined the export, the SHA-256 of the file, and its
comparison with the module. An entry that is damaged or of another export is replaced.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import msgspec.structs
from msgspec import Struct

from converter import __version__
from converter.choices import ExportFormat
from converter.errors import ExportError, StorageError
from converter.exports import exporting, onnx_network
from converter.exports.exporting import ExportSource
from converter.formats import artifact, onnx_file, program_file
from converter.manifests.schema import ExportRecord  # noqa: TC001 - evaluated
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from converter.dtypes import Array
    from converter.exports.onnx_network import OnnxNetwork
    from converter.progress import Progress

FOLDER = "onnx"  # in the cache of converted files
MAX_BYTES = 1 << 16  # of a record; 1 KB measured
STEP = "exporting to ONNX"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRequest:
    """A network that onnxruntime is to run.

    Attributes:
        name: its name.
        weights: the file of the weights.
        definition: what determines the module, apart from its weights.
        image: an input, with one image, on which the export is compared with the module.
        build: returns the module, in float32, in evaluation mode and on the CPU.
    """

    name: str
    weights: Path
    definition: str
    image: Array
    build: Callable[[], nn.Module]


class ExportKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What determines an export.

    Attributes:
        weights: SHA-256 of the file of the weights.
        definition: SHA-256 of what else determines the module.
        shape: the shape of the input.
        versions: versions of the packages that write, compare and run the file.
    """

    weights: str
    definition: str
    shape: tuple[int, ...]
    versions: dict[str, str]


class CacheRecord(Struct, frozen=True, kw_only=True):
    """The record next to a cached file."""

    key: ExportKey
    export: ExportRecord


def cache_folder() -> Path:
    """Return the folder of exported files, in torch's cache, which ``TORCH_HOME`` can select."""
    from resnext_torch import pretrained  # noqa: PLC0415 - imports torch, which takes seconds

    return pretrained.cache_folder() / FOLDER


def provide(request: CacheRequest, progress: Progress = silent) -> OnnxNetwork:
    """Return a network as onnxruntime runs it: from the cache, else exported and compared with its module.

    Raises:
        ExportError: if the network cannot be exported, or the file computes something else than the module.
        StorageError: if the cache cannot be written, or the weights cannot be read.
    """
    key = _key(request)
    file = cache_folder() / artifact.file_name(_stem(request, key), _digest(key), onnx_file.SUFFIX)
    record = _find(file, key) or _add(file, key, request, progress)
    return onnx_network.load(file, record)


def _key(request: CacheRequest) -> ExportKey:
    return ExportKey(
        weights=disk.sha256(request.weights),
        definition=hashlib.sha256(request.definition.encode()).hexdigest(),
        shape=request.image.shape,
        versions={"gluon2torch": __version__, **onnx_file.versions()},
    )


def _stem(request: CacheRequest, key: ExportKey) -> str:
    """Return the start of the file name: the network, the SHA-256 of the weights, the size of the input."""
    size = "x".join(map(str, key.shape[1:]))
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', request.name)}-{key.weights}-{size}"


def _digest(key: ExportKey) -> str:
    return hashlib.sha256(msgspec.json.encode(key, order="deterministic")).hexdigest()


def _record_file(file: Path) -> Path:
    return file.with_name(f"{file.name.removesuffix(onnx_file.SUFFIX)}.json")


def _find(file: Path, key: ExportKey) -> ExportRecord | None:
    """Return the record of a cached file, None if there is no file that is intact and of this export."""
    try:
        content = disk.read_small(_record_file(file), MAX_BYTES)
        record = msgspec.json.decode(content, type=CacheRecord)
        disk.require_regular(file)
        if record.key != key or disk.sha256(file) != record.export.sha256:
            return None
        data = record.export.data
        if data is not None and disk.sha256(file.with_name(data.file)) != data.sha256:
            return None
    except (StorageError, msgspec.DecodeError):  # missing or damaged
        return None
    return record.export


def _add(file: Path, key: ExportKey, request: CacheRequest, progress: Progress) -> ExportRecord:
    """Export a network into the cache, unless another process does so first.

    The record is renamed last: a run that is killed before that leaves no entry.
    """
    folder = file.parent
    with disk.temporary(folder) as part, disk.locked(folder):
        if record := _find(file, key):
            return record
        progress(STEP, 0, 1)
        source = _source(request, _stem(request, key), _digest(key))
        try:
            with exporting.draft(folder, (ExportFormat.onnx,), source) as (exported,):
                record = msgspec.structs.replace(exported.record, file=file.name)
                with disk.writing(folder):
                    part.write_bytes(msgspec.json.encode(CacheRecord(key=key, export=record)))
                for path in exported.paths:  # named by the key, not by their content
                    disk.place(path, folder / path.name, overwrite=True)
                disk.place(part, _record_file(file), overwrite=True)
        except ExportError as error:
            raise ExportError(f"{request.weights}: {error}\n  try         --backend torch") from error
        progress(STEP, 1, 1)
        return record


def _source(request: CacheRequest, stem: str, digest: str) -> ExportSource:
    network = request.build()
    expected = program_file.outputs(network, request.image)
    return ExportSource(
        network=network,
        stem=stem,
        sha256=digest,
        inputs=("images",),
        outputs=tuple(f"output{number}" for number in range(len(expected))),
        image=request.image,
        expected=expected,
        reference="module",
    )
