"""Identify a weight file, a graph or a folder and, on request, summarize the contents of a weight file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.commands import (
    arguments,
    folder_inspection,
    graph_inspection,
    tensor_statistics,
    verdicts,
)
from converter.commands.inspection_result import Inspection
from converter.dtypes import FLOATS
from converter.errors import CheckpointError, DialectError, StorageError, SymbolError
from converter.formats import archives, detect, params
from converter.formats.kinds import GLUON, PACKED, PYTORCH, Kind
from converter.networks import catalog, detection, graph_search, naming_styles, state_dicts, wiring
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.progress import Progress

PYTORCH_NAMES = "PyTorch"  # the dialect of files that are not Gluon's
MAX_UNPACKED = 1 << 26  # bytes; a larger archive is read on request


def inspect(
    path: str | PathLike[str], *, key: str | None = None, full: bool = False, progress: Progress = silent
) -> Inspection:
    """Identify a file, ``.params``, packed or not, ``.safetensors``, ``.pth`` or a graph, or list a folder.

    Only headers are read, which is fast; of a ``.pth`` and of a small archive, the whole file.

    Args:
        path: the file or folder.
        key: key of the state dict in a ``.pth``, with dots between nested keys; by default it is detected.
        full: whether to unpack the file, hash it and read all values.
        progress: called as bytes are read.

    Raises:
        ConversionError: if the file is of another kind or changes meanwhile.
    """
    path = arguments.to_path(path)
    if disk.is_folder(path):
        return folder_inspection.inspect(path)
    detect.require_file(path)
    with disk.unchanged(path):
        inspection = _inspect(path, key, progress, full=full)
        return replace(inspection, verdict=inspection.verdict or verdicts.of_weights(inspection, path))


def _inspect(path: Path, key: str | None, progress: Progress, *, full: bool) -> Inspection:
    kind = detect.kind(path)
    inspection = Inspection(disk.file_name(path), path.stat().st_size, kind=kind)
    if kind is Kind.graph:
        return graph_inspection.inspect(path, inspection)
    if key is not None and kind in GLUON | PACKED:
        state_dicts.read(path, key)  # raises the error
    if kind not in PACKED:
        return _inspect_contents(path, {}, path, inspection, progress, key=key, full=full)
    inspection = replace(inspection, archive=kind)
    if not full and archives.unpacked_size(path) > MAX_UNPACKED:
        return replace(inspection, remark="packed; use --full to read the contents")
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        documents = archives.unpack(path, unpacked, progress).documents
        return _inspect_contents(path, documents, unpacked, inspection, progress, full=full)


def _inspect_contents(  # noqa: PLR0913 - the file, the documents in its archive, and the result so far
    user_path: Path,
    documents: dict[str, bytes],
    path: Path,
    inspection: Inspection,
    progress: Progress,
    *,
    key: str | None = None,
    full: bool,
) -> Inspection:
    kind = detect.kind(path, str(user_path))
    if kind not in GLUON | PYTORCH:
        raise CheckpointError(detect.refusal(path, kind, str(user_path)))
    if kind in GLUON:
        file = params.open_params(path, name=inspection.file, verify=full)
        arrays: Arrays = file.arrays
        inspection = replace(inspection, container=file.container, records=file.records)
        inspection = _inspect_gluon(user_path, documents, arrays, inspection)
    else:
        weights = state_dicts.read(path, key)
        arrays = weights.arrays
        models = tuple(detection.match_torch(arrays))
        inspection = replace(
            inspection, container=kind.value, dialect=PYTORCH_NAMES, models=models, location=weights.location
        )
    nearest = (
        None if inspection.models else detection.nearest([array.shape for array in arrays.values()]).name
    )
    floats = [array for array in arrays.values() if array.dtype in FLOATS]
    inspection = replace(
        inspection,
        nearest=nearest,
        dtypes=tuple(Counter(str(array.dtype) for array in arrays.values()).most_common()),
        tensors=len(arrays),
        values=sum(array.size for array in arrays.values()),
        numbers=sum(array.size for array in floats),
    )
    if not full:
        return inspection
    sha1 = params_file.sha1(path, progress)
    return replace(
        inspection,
        sha1=sha1,
        official=_published_model(sha1),
        statistics=tuple(tensor_statistics.summarize(arrays, inspection.models)),
    )


def _inspect_gluon(
    user_path: Path, documents: dict[str, bytes], arrays: Arrays, inspection: Inspection
) -> Inspection:
    try:
        naming = naming_styles.read(arrays, inspection.file)
    except DialectError as error:
        return replace(inspection, remark=str(error))
    models = detection.match_gluon(arrays, naming)
    prefix_matches = [model for model in models if detection.has_model_prefix(model, naming)]
    inspection = replace(
        inspection,
        dialect=naming.dialect,
        prefix=naming.prefix or None,
        models=tuple(prefix_matches or models),
    )
    try:
        graph = graph_search.find(user_path, documents, arrays, naming, lambda: models)
    except (StorageError, SymbolError) as error:
        return replace(inspection, graph_differences=tuple(str(error).split("\n")))
    return inspection if graph is None else _with_graph(graph, inspection)


def _with_graph(graph: Graph, inspection: Inspection) -> Inspection:
    """Keep the models that match a graph; if none does, record how it differs from the first."""
    inspection = replace(inspection, graph=graph.name)
    differences: list[str] = []
    matches = []
    for model in inspection.models:
        try:
            matches.append(wiring.match_any_stride(graph, model)[0])
        except SymbolError as error:
            differences = differences or str(error).split("\n")
    return (
        replace(inspection, models=tuple(matches))
        if matches
        else replace(inspection, graph_differences=tuple(differences))
    )


def _published_model(sha1: str) -> str | bool:
    """Return the name of the model, covered or not, whose published file has this SHA-1, or False."""
    covered = (model.name for model in catalog.models().values() if model.entry.params_sha1 == sha1)
    return next(covered, None) or catalog.uncovered_model(sha1) or False
