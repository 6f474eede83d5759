"""Identify a weight file, a graph or a folder and, on request, summarize the contents of a weight file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.commands import (
    arguments,
    folder_inspection,
    gluon_inspection,
    graph_inspection,
    inspection_verdict,
    tensor_statistics,
)
from converter.commands.inspection_result import Inspection
from converter.dtypes import FLOATS
from converter.errors import ArtifactError, CheckpointError
from converter.formats import archives, checkpoint, detect, file_arrays, params
from converter.formats.kinds import GLUON, PACKED, PYTORCH, Kind
from converter.graphs import candidates
from converter.manifests import converted_file, converted_weights
from converter.manifests.schema import TrainedManifest
from converter.networks import catalog, detection, state_dicts, unknown_names
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from os import PathLike

    from converter.formats.file_arrays import Arrays
    from converter.manifests.schema import AnyManifest
    from converter.networks.naming_styles import NamingStyle
    from converter.progress import Progress

PYTORCH_NAMES = "PyTorch"  # the dialect of files that are not Gluon's
MAX_UNPACKED = 1 << 26  # bytes; a larger archive is read on request
MAX_HASHED = 1 << 30  # bytes of a file that matches no model, which is read to find out who published it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The arrays of a weight file, and the description so far."""

    inspection: Inspection
    arrays: Arrays
    naming: NamingStyle | None = None


def inspect(
    path: str | PathLike[str], *, key: str | None = None, full: bool = False, progress: Progress = silent
) -> Inspection:
    """Identify a file, ``.params``, packed or not, ``.safetensors``, ``.pth`` or a graph, or list a folder.

    Only headers are read, which is fast; of a ``.pth``, of a small archive, and of parameters that match no
    model, the whole file.

    Args:
        path: the file or folder, or MXNet's prefix of a graph, ``net`` for ``net-symbol.json``.
        key: key of the state dict in a ``.pth``, with dots between nested keys; by default it is detected.
        full: whether to unpack the file, hash it and read all values.
        progress: called as bytes are read.

    Raises:
        ConversionError: if the file is of another kind or changes meanwhile.
    """
    path = arguments.to_path(path)
    if disk.is_folder(path):
        return folder_inspection.inspect(path)
    if not candidates.exists(path) and candidates.exists(prefixed := Path(f"{path}{detect.GRAPH_SUFFIX}")):
        path = prefixed
    detect.require_file(path)
    with disk.unchanged(path):
        inspection = _inspect(path, key, progress, full=full)
        verdict = inspection.verdict or inspection_verdict.of_weights(inspection, path)
        return replace(inspection, verdict=verdict)


def _inspect(path: Path, key: str | None, progress: Progress, *, full: bool) -> Inspection:
    kind = detect.kind(path)
    inspection = Inspection(file=disk.file_name(path), size=path.stat().st_size, kind=kind)
    if kind is Kind.graph:
        return graph_inspection.inspect(path, inspection)
    if kind in PYTORCH:
        return _with_values(_read_pytorch(path, key, inspection), path, progress, full=full)
    if key is not None and kind in GLUON | PACKED:
        raise checkpoint.no_key(path, key)
    if kind not in PACKED:
        return _with_values(_read_gluon(path, {}, path, inspection, full=full), path, progress, full=full)
    inspection = replace(inspection, archive=kind)
    if not full and archives.unpacked_size(path) > MAX_UNPACKED:
        return replace(inspection, remark="packed; use --full to read the contents")
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        documents = archives.unpack(path, unpacked, progress).documents
        if detect.kind(unpacked, str(path)) in PYTORCH:
            contents = _read_pytorch(unpacked, key, inspection)
        else:
            contents = _read_gluon(path, documents, unpacked, inspection, full=full)
        return _with_values(contents, unpacked, progress, full=full)


def _read_gluon(
    user_path: Path, documents: dict[str, bytes], path: Path, inspection: Inspection, *, full: bool
) -> _Contents:
    """Read Gluon parameters: the file, or the one that was unpacked from it."""
    kind = detect.kind(path, str(user_path))
    if kind not in GLUON:
        raise CheckpointError(detect.refusal(path, kind, str(user_path)))
    file = params.open_params(path, name=inspection.file, verify=full)
    inspection = replace(inspection, container=file.container, records=file.records)
    gluon = gluon_inspection.inspect(user_path, documents, file.arrays, inspection)
    return _Contents(inspection=gluon.inspection, arrays=file.arrays, naming=gluon.naming)


def _read_pytorch(path: Path, key: str | None, inspection: Inspection) -> _Contents:
    """Read a PyTorch checkpoint, and the manifest if it is a converted file."""
    if converted := converted_weights.find(path, key):
        inspection = replace(
            inspection,
            container=detect.kind(path),
            dialect=PYTORCH_NAMES,
            location=converted.location,
            is_converted=converted.converted,
            module=converted.module,
            verdict=converted.describe(path),
            step=inspection_verdict.step_of_converted(converted, path),
        )
        return _Contents(inspection=inspection, arrays=converted.arrays)
    weights = state_dicts.read(path, key)
    inspection = replace(
        inspection,
        container=detect.kind(path),
        dialect=PYTORCH_NAMES,
        models=tuple(detection.match_torch(weights.arrays)),
        location=weights.location,
    )
    try:
        inspection = _with_manifest(inspection, converted_file.find_manifest(path))
    except ArtifactError as error:  # the weights are described without their manifest
        inspection = replace(inspection, remark=str(error))
    return _Contents(inspection=inspection, arrays=weights.arrays)


def _with_manifest(inspection: Inspection, manifest: AnyManifest | None) -> Inspection:
    """Add what the tensors of a converted file do not show.

    Raises:
        ArtifactError: if the network cannot have the output stride in the manifest.
    """
    if manifest is None:
        return inspection
    named = [model for model in inspection.models if model.name == manifest.model]
    models = tuple(converted_file.with_recorded_stride(model, manifest) for model in named)
    if not models:
        return inspection
    trained = isinstance(manifest, TrainedManifest)
    return replace(inspection, models=models, is_converted=not trained, is_trained=trained)


def _with_values(contents: _Contents, path: Path, progress: Progress, *, full: bool) -> Inspection:
    """Add the types and numbers of values, who published the file and, on request, statistics."""
    inspection, arrays = contents.inspection, contents.arrays
    is_known = bool(inspection.models or inspection.module or inspection.network)
    nearest = None if is_known else detection.nearest([array.shape for array in arrays.values()]).name
    floats = [array for array in arrays.values() if array.dtype in FLOATS]
    inspection = replace(
        inspection,
        nearest=nearest,
        dtypes=tuple(Counter(str(array.dtype) for array in arrays.values()).most_common()),
        tensors=len(arrays),
        values=sum(array.size for array in arrays.values()),
        numbers=sum(array.size for array in floats),
    )
    if full or (not is_known and path.stat().st_size <= MAX_HASHED):
        inspection = _with_publication(inspection, params_file.sha1(path, progress))
    if not full:
        return inspection
    with file_arrays.held(arrays.values()):
        summaries = tuple(tensor_statistics.summarize(arrays, inspection.models, contents.naming))
    return replace(inspection, statistics=summaries)


def _with_publication(inspection: Inspection, sha1: str) -> Inspection:
    """Add the SHA-1 and who published the file, which may replace the verdict."""
    official = _published_model(sha1)
    inspection = replace(inspection, sha1=sha1, official=official)
    is_known = inspection.models or inspection.network or inspection.summary is not None
    if official and not is_known:
        return replace(inspection, verdict=unknown_names.describe_gluoncv(str(official)))
    return inspection


def _published_model(sha1: str) -> str | bool:
    """Return the name of the model, native or not, whose published file has this SHA-1, or False."""
    native = (model.name for model in catalog.models().values() if model.entry.params_sha1 == sha1)
    return next(native, None) or catalog.published_not_native(sha1) or False
