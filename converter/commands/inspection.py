"""What a weight file is, told from its headers; and what is in it, where that is asked for."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.dtypes import FLOATS
from converter.errors import DialectError, SourceError, SymbolError
from converter.formats import archives, checkpoint, params
from converter.formats.checkpoint import Kind
from converter.networks import catalog, detection, graph_search, naming_styles, wiring
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.progress import Progress

ROLE = re.compile(r"(weight|bias|gamma|beta|running_mean|running_var)$")
PIECE_NUMBERS = 1 << 20  # widened at once
PYTORCH = "PyTorch"  # the dialect of everybody else


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """Of some arrays: those of one role in one part of a network. The numbers are of what is finite."""

    part: str
    role: str
    arrays: int
    numbers: int
    mean: float
    deviation: float
    least: float
    largest: float
    zeros: int
    not_finite: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a file.

    ``models`` are those whose tensors these are; where there is none, ``nearest`` is named. ``official`` is
    the model whose published file it is; it, ``sha1`` and ``statistics`` are None where only headers were
    read. ``remark`` says what could not be told. ``graph`` is the graph that belongs to the parameters;
    ``graph_differences`` says where it differs from the model, in lines.
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


def inspect(path: Path, progress: Progress, *, full: bool = False) -> Inspection:
    """Say what a file is: ``.params``, packed or not, ``.safetensors`` or ``.pth``.

    Only headers are read, in no time, but of a ``.pth``. ``full``: unpack, hash, read all.
    Errors: ``ConversionError`` where it is none of these, or changed meanwhile.
    """
    with disk.unchanged(path, SourceError):
        return _inspect(path, progress, full=full)


def _inspect(path: Path, progress: Progress, *, full: bool) -> Inspection:
    size = disk.require_regular(path, SourceError).st_size
    name = disk.file_name(path)
    kind = checkpoint.kind(path)
    if kind is not Kind.packed:
        return _contents(path, {}, path, Inspection(name, size), progress, full=full)
    found = Inspection(name, size, archive=archives.kind(path))
    if not full:
        return replace(found, remark="what is packed is read with --full")
    with disk.temp_dir() as folder:
        unpacked = folder / "unpacked.params"
        documents = archives.unpack(path, unpacked, progress).documents
        return _contents(path, documents, unpacked, found, progress, full=True)


def document(found: Inspection) -> dict[str, Any]:
    """Return all of it for programs."""
    return {
        "file": found.file,
        "bytes": found.size,
        "archive": found.archive,
        "container": found.container,
        "records": list(found.records),
        "dialect": found.dialect,
        "prefix": found.prefix,
        "models": [
            {
                "model": model.name,
                "depths": list(model.config.depths),
                "cardinality": model.config.cardinality,
                "width": model.config.width,
                "classes": model.config.num_classes,
            }
            for model in found.models
        ],
        "nearest": found.nearest,
        "dtypes": dict(found.dtypes),
        "tensors": found.tensors,
        "numbers": found.numbers,
        "sha1": found.sha1,
        "official": found.official,
        "statistics": None
        if found.statistics is None
        else [{name: _finite(value) for name, value in asdict(row).items()} for row in found.statistics],
        "remark": found.remark,
        "graph": found.graph,
        "graph_differences": list(found.graph_differences),
    }


def _finite(value: object) -> object:
    """Return what JSON can have: None in the place of a number that is not finite."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _contents(  # noqa: PLR0913 - the file, what else is in its archive, and what is in it
    origin: Path,
    documents: dict[str, bytes],
    path: Path,
    found: Inspection,
    progress: Progress,
    *,
    full: bool,
) -> Inspection:
    kind = checkpoint.kind(path)
    if kind is Kind.params:
        file = params.open_params(path, name=found.file, verify=full)
        arrays: Arrays = file.arrays
        found = replace(found, container=file.container, records=file.records)
        found = _gluon(origin, documents, arrays, found)
    else:
        arrays = checkpoint.read(path)
        models = tuple(detection.match_torch(arrays))
        found = replace(found, container=kind.value, dialect=PYTORCH, models=models)
    nearest = None if found.models else detection.nearest([array.shape for array in arrays.values()]).name
    floats = [array for array in arrays.values() if array.dtype in FLOATS]
    found = replace(
        found,
        nearest=nearest,
        dtypes=tuple(Counter(str(array.dtype) for array in arrays.values()).most_common()),
        tensors=len(arrays),
        numbers=sum(array.size for array in floats),
    )
    if not full:
        return found
    sha1 = params_file.sha1(path, progress)
    return replace(
        found, sha1=sha1, official=_published(sha1), statistics=tuple(_summaries(arrays, found.models))
    )


def _gluon(origin: Path, documents: dict[str, bytes], arrays: Arrays, found: Inspection) -> Inspection:
    try:
        naming = naming_styles.read(arrays, found.file)
    except DialectError as error:
        return replace(found, remark=str(error))
    models = detection.match_gluon(arrays, naming)
    named = [model for model in models if detection.has_model_prefix(model, naming)]
    found = replace(
        found, dialect=naming.dialect, prefix=naming.prefix or None, models=tuple(named or models)
    )
    try:
        graph = graph_search.find(origin, documents, arrays, naming, lambda: models)
    except SymbolError as error:
        return replace(found, graph_differences=tuple(str(error).split("\n")))
    return found if graph is None else _with_graph(graph, found)


def _with_graph(graph: Graph, found: Inspection) -> Inspection:
    """Keep the models that a graph is of; where it is of none, say how it differs from the first."""
    found = replace(found, graph=graph.name)
    differences: list[str] = []
    wired = []
    for model in found.models:
        try:
            wiring.match(graph, model)
            wired.append(model)
        except SymbolError as error:
            differences = differences or str(error).split("\n")
    return (
        replace(found, models=tuple(wired)) if wired else replace(found, graph_differences=tuple(differences))
    )


def _published(sha1: str) -> str | bool:
    """Return the name of the model whose published file has this SHA-1, or False."""
    return next((model.name for model in catalog.models().values() if model.entry.params_sha1 == sha1), False)


def _summaries(arrays: Arrays, models: tuple[Model, ...]) -> Iterator[TensorSummary]:
    """Summarise the arrays by part and role, in the network's order; without a model by role alone."""
    places = _places(arrays, models[0]) if models else {}
    groups: dict[tuple[str, str], list[AnyArray]] = {}
    for name, array in arrays.items():
        if array.dtype in FLOATS:
            groups.setdefault(places.get(name) or ("all", _role(name)), []).append(array)
    order = list(dict.fromkeys(places.values()))
    for (part, role), group in sorted(
        groups.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order)
    ):
        yield _summary(part, role, group)


def _role(name: str) -> str:
    match = ROLE.search(name)
    return match[0] if match else "other"


def _places(arrays: Arrays, model: Model) -> dict[str, tuple[str, str]]:
    """Return of every array, by the file's names, its part and its role, by Gluon's, which tells more."""
    tensors = model.mapping.tensors
    if arrays.keys() >= model.mapping.to_source().keys():
        return {tensor.target: (tensor.layer.part, tensor.source_role) for tensor in tensors}
    found = naming_styles.read(arrays, "").resolve(model.mapping)
    return {found[tensor.source]: (tensor.layer.part, tensor.source_role) for tensor in tensors}


def _summary(part: str, role: str, group: list[AnyArray]) -> TensorSummary:
    """Summarise arrays, of which only a piece at a time is widened."""
    numbers = sum(array.size for array in group)
    count, total, zeros = 0, 0.0, 0
    least, largest = math.inf, -math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        for known in _finite_numbers(group):
            count, zeros = count + known.size, zeros + int((known == 0).sum())
            total += float(known.sum())
            least, largest = min(least, known.min(initial=least)), max(largest, known.max(initial=largest))
        mean = total / count if count else 0.0
        squares = sum(float(np.square(known - mean).sum()) for known in _finite_numbers(group))
    spread = math.sqrt(squares / count) if count and squares >= 0 else 0.0
    if not count:
        least = largest = 0.0
    return TensorSummary(
        part, role, len(group), numbers, mean, spread, float(least), float(largest), zeros, numbers - count
    )


def _finite_numbers(group: list[AnyArray]) -> Iterator[Array]:
    """Yield the finite numbers of arrays in float64, piece by piece."""
    for array in group:
        numbers = np.asarray(array).reshape(-1)
        for begin in range(0, numbers.size, PIECE_NUMBERS):
            wide = numbers[begin : begin + PIECE_NUMBERS].astype(np.float64)
            yield wide[np.isfinite(wide)]
