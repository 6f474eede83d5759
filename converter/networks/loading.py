"""Loads a ``.params`` file and matches it with its model, for conversions and parity checks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import (
    CheckpointError,
    ConversionError,
    MappingError,
    ParamsError,
    SourceError,
    StorageError,
    SymbolError,
    UsageError,
)
from converter.formats import checkpoint, params, precision
from converter.formats.checkpoint import Kind
from converter.formats.params import Params, write_params
from converter.graphs import reader
from converter.networks import catalog, detection, graph_search, matching, naming_styles, synthetic, wiring
from converter.sources import gluoncv_zoo, params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.wiring import Wiring
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

READ_BY_MXNET = {"legacy", "V1", "V2"}  # record versions that MXNet 1.9 reads


AUTO = "auto"  # in place of a model's name: detect the model


@dataclass(frozen=True, slots=True)
class ParamsSource:
    """Selects parameters: a file, seeded random ones, or, with neither, those that GluonCV published.

    Attributes:
        model: the model, None to detect it from the file's tensors.
        params: the ``.params`` file, or an archive of one.
        seed: the seed of random parameters.
        symbol: the file's graph, None to search for it.
        search_graph: whether to search for the graph in the archive and the folder of the file.
    """

    model: Model | None
    params: Path | None = None
    seed: int | None = None
    symbol: Path | None = None
    search_graph: bool = True


def select(
    model: str,
    params: str | PathLike[str] | None,
    random: int | None,
    symbol: str | PathLike[str] | None,
) -> ParamsSource:
    """Return the source that plain arguments select.

    Args:
        model: the model's name, or "auto".
        params: ``.params`` file or archive.
        random: seed of random parameters.
        symbol: graph of the parameters.

    Raises:
        UsageError: if the arguments contradict each other, or a file is required.
        CatalogError: if the model is unknown.
    """
    if params is not None and random is not None:
        raise UsageError("`params` and `random` exclude each other")
    if params is None and model == AUTO:
        raise UsageError("auto-detection requires `params`")
    if params is None and symbol is not None:
        raise UsageError("`symbol` requires `params`")
    if random is not None and random < 0:
        raise UsageError(f"`random`: a seed of at least 0 expected, {random} found")
    if Path(model).is_file():
        raise UsageError(f"{model} is a file, not a model; use auto with `params` {model}")
    return ParamsSource(
        model=None if model == AUTO else catalog.find(model),
        params=None if params is None else Path(params),
        seed=random,
        symbol=None if symbol is None else Path(symbol),
    )


@dataclass(frozen=True, slots=True)
class LoadedParams:
    """Parameters as they were read.

    Attributes:
        params_file: the file.
        content: its content.
        naming: the style of the names in it.
        wiring: the graph that belongs to the parameters, matched with the model; None if there is none.
    """

    params_file: ParamsFile
    content: Params
    naming: NamingStyle
    wiring: Wiring | None = None

    @property
    def graph(self) -> Graph | None:
        """The graph that belongs to the parameters."""
        return self.wiring.graph if self.wiring else None

    @property
    def fixed_gammas(self) -> tuple[str, ...]:
        """The structural names of the gammas that the graph fixes at 1."""
        return self.wiring.fixed_gammas if self.wiring else ()

    @property
    def is_read_by_mxnet(self) -> bool:
        """Whether MXNet 1.9 can load the file and compute with its dtypes."""
        return (
            bool(self.content.records)
            and READ_BY_MXNET.issuperset(self.content.records)
            and all(precision.widen(array) is array for array in self.content.arrays.values())
        )


@dataclass(frozen=True, slots=True)
class MXNetParams:
    """A file that MXNet can load.

    Attributes:
        path: the file.
        names: the names in the file, by structural name.
    """

    path: Path
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Parameters that match their model; the arrays stay in the file.

    Attributes:
        model: the model, with the number of classes of the file's head.
        mapping: the model's mapping.
        params: the parameters by Gluon's structural names.
        state: the same arrays by PyTorch's names, and a zero for each counter.
        source: the parameters as they were read.
    """

    model: Model
    mapping: Mapping
    params: Arrays
    state: Arrays
    source: LoadedParams

    @contextlib.contextmanager
    def for_mxnet(self) -> Iterator[MXNetParams]:
        """Yield a file that MXNet can load: the source itself, or else a temporary copy.

        A copy for GluonCV's own network keeps index-based names, which GluonCV resolves itself; any
        other copy has structural names.

        Raises:
            StorageError: if the copy cannot be written.
        """
        naming = self.source.naming
        resolved = naming.resolve(self.mapping)
        if self.source.is_read_by_mxnet and (
            self.source.wiring or naming.dialect == naming_styles.STRUCTURAL
        ):
            yield MXNetParams(self.source.params_file.path, resolved)
            return
        structural = {file_name: name for name, file_name in resolved.items()}
        index_based = (
            {}
            if self.source.wiring
            else {name: structural[file_name] for name, file_name in naming.stripped().items()}
        )
        copy_names = index_based or {name: name for name in self.params}
        with disk.temp_dir() as folder:
            path = folder / "for-mxnet.params"
            with disk.writing(path), path.open("wb") as stream:
                write_params(
                    stream,
                    {name: precision.widen(self.params[param]) for name, param in copy_names.items()},
                )
            yield MXNetParams(path, {param: name for name, param in copy_names.items()})


def load_model(source: ParamsSource, file: ParamsFile) -> LoadedModel:
    """Read a ``.params`` file and match it with a model, with the number of classes of the file's head.

    Args:
        source: what the user selected.
        file: the selected file.

    Raises:
        ParamsError: if the file is malformed.
        StorageError: if it cannot be read, or has changed since it was opened.
        DialectError: if the names are in none of Gluon's styles.
        SymbolError: if the graph cannot be read or does not match the model.
        MappingError: if the parameters do not match the model; the message names the model that they do
            match, or those between which the user has to choose.
    """
    name = str(file.origin)
    _require_no_checkpoint(file)
    content = params.open_params(file.path, name=name)
    if file.archive is None and content.stamp != file.stamp:
        raise StorageError(f"{name}: {disk.CHANGED}")
    naming = naming_styles.read(content.arrays, name)
    graph = _graph(source, file, content.arrays, naming)
    if source.model is None:
        model = detection.detect_model(
            content.arrays, naming, graph, lambda candidate: file.is_published(candidate.published)
        )
    else:
        model = source.model
        detection.require_not_another(model, naming)
    structural = _structural_arrays(model, content.arrays, naming)
    model = detection.with_classes_of(model, detection.gluon_head(model, structural))
    graph_wiring = _match_graph(graph, model, naming) if graph else None
    gammas = graph_wiring.fixed_gammas if graph_wiring else ()
    if graph and source.symbol is None:
        _require_own_gammas(graph, gammas, structural, content.arrays, name)
    structural |= {
        gamma: np.ones(structural[gamma].shape, structural[gamma].dtype)
        for gamma in gammas
        if gamma in structural
    }
    try:
        state = matching.rename(model.mapping, structural, model.shapes, name)
    except MappingError as error:
        raise detection.with_suggestions(
            error, model, detection.match_gluon(content.arrays, naming)
        ) from error
    loaded_params = LoadedParams(file, content, naming, graph_wiring)
    return LoadedModel(model, model.mapping, structural, state, loaded_params)


def find_graph(source: ParamsSource, file: ParamsFile) -> Graph | None:
    """Return the graph that ``load_model`` would match with the model, None if there is none.

    Raises:
        ConversionError: if the parameters or the graph cannot be read.
    """
    name = str(file.origin)
    arrays = params.open_params(file.path, name=name).arrays
    return _graph(source, file, arrays, naming_styles.read(arrays, name))


def _graph(source: ParamsSource, file: ParamsFile, arrays: Arrays, naming: NamingStyle) -> Graph | None:
    """Return the graph of a user's file: the selected one, or else one that belongs to the file."""
    if source.symbol is not None:
        return reader.read(source.symbol)
    if source.params is None or not source.search_graph:
        return None

    def models() -> list[Model]:
        return detection.match_gluon(arrays, naming) if source.model is None else [source.model]

    return graph_search.find(file.origin, file.documents, arrays, naming, models)


def _match_graph(graph: Graph, model: Model, naming: NamingStyle) -> Wiring:
    """Match a graph with a model.

    Raises:
        SymbolError: if they differ, or if the file's names assign a parameter to another layer.
    """
    graph_wiring = wiring.match(graph, model)
    variables = {*graph_wiring.variables.values()}
    file_names = naming.resolve(model.mapping)
    plain = {file_name: name for name, file_name in naming_styles.plain(file_names.values()).items()}
    moved = [
        f"{tensor}: {graph_wiring.variables[tensor]} in the graph, {plain[file_name]} in {naming.file}"
        for tensor, file_name in file_names.items()
        if plain[file_name] in variables and graph_wiring.variables.get(tensor) != plain[file_name]
    ]
    if moved:
        headline = f"{graph.file}: the graph assigns parameters to other layers than {naming.file}"
        raise SymbolError("\n  ".join([headline, *names.shorten(moved)]))
    return graph_wiring


def _require_own_gammas(
    graph: Graph, gammas: tuple[str, ...], structural: dict[str, AnyArray], arrays: Arrays, name: str
) -> None:
    """Check that a graph with other names than the file does not change weights.

    Such a graph names the same layers, which does not prove that it belongs to the file.

    Raises:
        SymbolError: if the graph fixes gammas at 1 that are not 1 in the file.
    """
    if {*graph.parameters} <= naming_styles.plain(arrays).keys():
        return
    present = [gamma for gamma in gammas if gamma in structural]
    changed = [gamma for gamma in present if not (np.asarray(structural[gamma]) == 1).all()]
    if changed:
        headline = (
            f"{graph.file}: the graph has other names than {name}, and fixes gammas at 1 that are not 1 there"
        )
        hint = "if it is the graph of these parameters, select it with --symbol FILE"
        raise SymbolError("\n  ".join([headline, *names.shorten(names.collapse(changed), 10), hint]))


@contextlib.contextmanager
def open_source(source: ParamsSource, progress: Progress) -> Iterator[ParamsFile]:
    """Yield the selected ``.params`` file; generated and unpacked files are deleted on exit.

    Raises:
        SourceError: if the file cannot be downloaded or unpacked.
        StorageError: if the file cannot be read; also in place of any other ``ConversionError`` in the
            body if the file has changed meanwhile.
    """
    with disk.temp_dir() as folder:
        file = _locate(source, folder, progress)
        try:
            yield file
        except ConversionError:
            params_file.require_unchanged(file)
            raise


def _locate(source: ParamsSource, folder: Path, progress: Progress) -> ParamsFile:
    model = source.model
    if source.params is not None:
        return params_file.from_file(source.params, folder, progress)
    if model is None:
        raise SourceError("auto-detection requires --params FILE")
    if source.seed is None:
        return gluoncv_zoo.take(model.published, folder, progress)
    path = folder / f"{model.name}.random-{source.seed}.params"
    return params_file.from_arrays(  # keeps no copy of the arrays
        synthetic.random_params(model.mapping, model.shapes, source.seed), path, progress
    )


def _require_no_checkpoint(file: ParamsFile) -> None:
    """Refuse PyTorch files by their kind: a clearer message than one about the first byte."""
    with contextlib.suppress(CheckpointError):  # neither kind: the reader reports the offset
        if (kind := checkpoint.kind(file.path)) in {Kind.torch, Kind.safetensors}:
            raise ParamsError(
                f"{file.origin}: is a PyTorch checkpoint ({kind}), not a .params file\n"
                "  to convert it to Gluon: gluon2torch to-gluon"
            )


def _structural_arrays(model: Model, arrays: Arrays, naming: NamingStyle) -> dict[str, AnyArray]:
    """Return the arrays by structural name."""
    try:
        file_names = naming.resolve(model.mapping)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_gluon(arrays, naming)) from error
    return {name: arrays[file_name] for name, file_name in file_names.items()}
