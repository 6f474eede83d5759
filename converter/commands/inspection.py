"""Identify a weight file from its headers and, on request, summarize its contents."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from converter.commands import arguments, tensor_statistics
from converter.dtypes import FLOATS
from converter.errors import DialectError, StorageError, SymbolError
from converter.formats import archives, checkpoint, params
from converter.formats.checkpoint import Kind
from converter.formats.state_dicts import TOP_LEVEL
from converter.networks import catalog, detection, graph_search, naming_styles, state_dicts, wiring
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from converter.commands.tensor_statistics import TensorSummary
    from converter.formats.file_arrays import Arrays
    from converter.formats.state_dicts import Location
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.progress import Progress

PYTORCH = "PyTorch"  # the dialect of files that are not Gluon's


@dataclass(frozen=True, slots=True)
class Inspection:
    """Description of a weight file.

    Attributes:
        file: name of the file.
        size: size in bytes.
        archive: kind of archive, None if the file is not packed.
        container: container format of the arrays.
        records: formats of the ``.params`` records.
        dialect: naming style.
        prefix: prefix of the names.
        models: models that the tensors match.
        nearest: nearest model, None if ``models`` is not empty.
        dtypes: number of arrays of each type, most frequent first.
        tensors: number of arrays.
        numbers: number of floating-point elements.
        sha1: SHA-1 of the unpacked file; None if only headers were read.
        official: model whose published file this is, by GluonCV's name if it is not covered, False if
            there is none; None if only headers were read.
        statistics: summaries by part and role; None if only headers were read.
        remark: what could not be determined, with the reason.
        graph: name of the graph that belongs to the parameters.
        graph_differences: differences between that graph and the model, as lines.
        location: where the weights are in a PyTorch checkpoint.
    """

    file: str
    size: int
    archive: str | None = None
    container: str | None = None
    records: tuple[str, ...] = ()
    dialect: str | None = None
    prefix: str | None = None
    models: tuple[Model, ...] = ()
    nearest: str | None = None
    dtypes: tuple[tuple[str, int], ...] = ()
    tensors: int | None = None
    numbers: int | None = None
    sha1: str | None = None
    official: str | bool | None = None
    statistics: tuple[TensorSummary, ...] | None = None
    remark: str | None = None
    graph: str | None = None
    graph_differences: tuple[str, ...] = ()
    location: Location = TOP_LEVEL


def inspect(
    path: str | PathLike[str], *, key: str | None = None, full: bool = False, progress: Progress = silent
) -> Inspection:
    """Identify a file: ``.params``, packed or not, ``.safetensors`` or ``.pth``.

    Only headers are read, which is fast; of a ``.pth``, the whole file.

    Args:
        path: the file.
        key: key of the state dict in a ``.pth``, with dots between nested keys; by default it is detected.
        full: whether to unpack the file, hash it and read all values.
        progress: called as bytes are read.

    Raises:
        ConversionError: if the file is of another kind or changes meanwhile.
    """
    path = arguments.to_path(path)
    with disk.unchanged(path):
        return _inspect(path, key, progress, full=full)


def _inspect(path: Path, key: str | None, progress: Progress, *, full: bool) -> Inspection:
    size = disk.require_regular(path).st_size
    name = disk.file_name(path)
    kind = checkpoint.kind(path)
    if key is not None and kind in {Kind.params, Kind.packed}:
        state_dicts.read(path, key)  # raises the error
    if kind is not Kind.packed:
        return _inspect_contents(path, {}, path, Inspection(name, size), progress, key=key, full=full)
    inspection = Inspection(name, size, archive=archives.kind(path))
    if not full:
        return replace(inspection, remark="packed; use --full to read the contents")
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        documents = archives.unpack(path, unpacked, progress).documents
        return _inspect_contents(path, documents, unpacked, inspection, progress, full=True)


def document(inspection: Inspection) -> dict[str, Any]:
    """Return the inspection as a JSON-compatible dictionary."""
    return {
        "file": inspection.file,
        "bytes": inspection.size,
        "archive": inspection.archive,
        "container": inspection.container,
        "records": list(inspection.records),
        "dialect": inspection.dialect,
        "prefix": inspection.prefix,
        "models": [
            {
                "model": model.name,
                "depths": list(model.config.depths),
                "cardinality": model.config.cardinality,
                "width": model.config.width,
                "classes": model.config.num_classes,
                "channels": model.config.in_chans,
                "output_stride": model.config.output_stride,
            }
            for model in inspection.models
        ],
        "nearest": inspection.nearest,
        "dtypes": dict(inspection.dtypes),
        "tensors": inspection.tensors,
        "numbers": inspection.numbers,
        "sha1": inspection.sha1,
        "official": inspection.official,
        "statistics": None
        if inspection.statistics is None
        else [{name: _finite(value) for name, value in asdict(row).items()} for row in inspection.statistics],
        "remark": inspection.remark,
        "graph": inspection.graph,
        "graph_differences": list(inspection.graph_differences),
        "state_dict": msgspec.to_builtins(inspection.location),
    }


def _finite(value: object) -> object:
    """Return the value, or None for a number that is not finite, which JSON cannot represent."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


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
    kind = checkpoint.kind(path)
    if kind is Kind.params:
        file = params.open_params(path, name=inspection.file, verify=full)
        arrays: Arrays = file.arrays
        inspection = replace(inspection, container=file.container, records=file.records)
        inspection = _inspect_gluon(user_path, documents, arrays, inspection)
    else:
        weights = state_dicts.read(path, key)
        arrays = weights.arrays
        models = tuple(detection.match_torch(arrays))
        inspection = replace(
            inspection, container=kind.value, dialect=PYTORCH, models=models, location=weights.location
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
