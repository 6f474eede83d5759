"""What conversions and parity checks begin with: a ``.params`` file found, read and laid beside its model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import (
    CheckpointError,
    ConversionError,
    MappingError,
    ParamsError,
    SourceError,
    SymbolError,
)
from converter.formats import checkpoint, params, precision
from converter.formats.checkpoint import Kind
from converter.formats.params import Params, write_params
from converter.graphs import reader
from converter.networks import detection, graph_search, matching, naming_styles, synthetic, wiring
from converter.sources import gluoncv_zoo, params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.wiring import Wiring
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

READ_BY_MXNET = {"legacy", "V1", "V2"}  # the records that MXNet 1.9 reads as it is


@dataclass(frozen=True, slots=True)
class ParamsSource:
    """Which parameters: a file, a model's seeded random ones, or, with neither, those that were published.

    Without a ``model`` it is detected from the file's tensors. ``symbol`` is the file's graph; without it the
    graph is searched for in the archive and the folder of the file, unless ``search_graph`` is false.
    """

    model: Model | None
    params: Path | None = None
    seed: int | None = None
    symbol: Path | None = None
    search_graph: bool = True


@dataclass(frozen=True, slots=True)
class LoadedParams:
    """What parameters were read from: the file, its contents, and the names in it.

    ``wiring`` is the graph that belongs to them, None if there is none.
    """

    source: ParamsFile
    file: Params
    naming: NamingStyle
    wiring: Wiring | None = None

    @property
    def graph(self) -> Graph | None:
        """The graph that belongs to the parameters."""
        return self.wiring.graph if self.wiring else None

    @property
    def fixed_gammas(self) -> tuple[str, ...]:
        """The gammas that the graph fixes at 1, by structural names."""
        return self.wiring.fixed_gammas if self.wiring else ()

    @property
    def is_read_by_mxnet(self) -> bool:
        """Whether MXNet 1.9 can load the file, and compute with the types in it."""
        return (
            bool(self.file.records)
            and READ_BY_MXNET.issuperset(self.file.records)
            and all(precision.widened(array) is array for array in self.file.arrays.values())
        )


@dataclass(frozen=True, slots=True)
class MXNetParams:
    """A file that MXNet can load, and the names in it by structural names."""

    path: Path
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Parameters that fit their model, in their file: ``params`` by Gluon's names, ``state`` by PyTorch's."""

    model: Model
    mapping: Mapping
    params: Arrays
    state: Arrays
    reading: LoadedParams

    @contextlib.contextmanager
    def for_mxnet(self) -> Iterator[MXNetParams]:
        """Give a file that MXNet can load: the source itself, or else a copy.

        GluonCV's own network gets structural names, or index-based ones, which it resolves itself.

        Raises:
            SourceError: if the copy cannot be written.
        """
        naming = self.reading.naming
        resolved = naming.resolve(self.mapping)
        if self.reading.is_read_by_mxnet and (
            self.reading.wiring or naming.dialect == naming_styles.STRUCTURAL
        ):
            yield MXNetParams(self.reading.source.path, resolved)
            return
        ours = {file_name: name for name, file_name in resolved.items()}
        counted = (
            {} if self.reading.wiring else {name: ours[file] for name, file in naming.stripped().items()}
        )
        own_names = counted or {name: name for name in self.params}
        with disk.temp_dir() as folder:
            path = folder / "for-mxnet.params"
            try:
                with path.open("wb") as stream:
                    write_params(
                        stream, {name: precision.widened(self.params[own]) for name, own in own_names.items()}
                    )
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror or error}") from error
            yield MXNetParams(path, {own: name for name, own in own_names.items()})


def load_model(origin: ParamsSource, found: ParamsFile) -> LoadedModel:
    """Read a ``.params`` file and match it with the model, whose classes are those of the file's head.

    Errors: ``ParamsError``, ``DialectError``, ``SymbolError``, ``MappingError``; the last names the model
    that does fit, or those between which only the user can decide.
    """
    name = str(found.origin)
    _require_no_checkpoint(found)
    file = params.open_params(found.path, name=name)
    if found.archive is None and file.stamp != found.stamp:
        raise SourceError(f"{name}: {disk.CHANGED}")
    naming = naming_styles.read(file.arrays, name)
    graph = _graph(origin, found, file.arrays, naming)
    if origin.model is None:
        model = detection.detect_model(
            file.arrays, naming, graph, lambda known: found.is_published(known.published)
        )
    else:
        model = origin.model
        detection.require_not_another(model, naming)
    structural = _resolved(model, file.arrays, naming)
    model = detection.with_classes_of(model, detection.gluon_head(model, structural))
    wired = _wired(graph, model, naming) if graph else None
    gammas = wired.fixed_gammas if wired else ()
    if graph and origin.symbol is None:
        _require_own_gammas(graph, gammas, structural, file.arrays, name)
    structural |= {
        gamma: np.ones(structural[gamma].shape, structural[gamma].dtype)
        for gamma in gammas
        if gamma in structural
    }
    try:
        state = matching.rename(model.mapping, structural, model.shapes, name)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_gluon(file.arrays, naming)) from error
    return LoadedModel(model, model.mapping, structural, state, LoadedParams(found, file, naming, wired))


def find_graph(origin: ParamsSource, found: ParamsFile) -> Graph | None:
    """Return the graph that ``prepare`` would match with the model.

    Raises:
        ConversionError: if the parameters or the graph cannot be read.
    """
    name = str(found.origin)
    arrays = params.open_params(found.path, name=name).arrays
    return _graph(origin, found, arrays, naming_styles.read(arrays, name))


def _graph(origin: ParamsSource, found: ParamsFile, arrays: Arrays, naming: NamingStyle) -> Graph | None:
    """Return the graph of a user's parameters: the one that was named, or one that belongs to the file."""
    if origin.symbol is not None:
        return reader.read(origin.symbol)
    if origin.params is None or not origin.search_graph:
        return None

    def models() -> list[Model]:
        return detection.match_gluon(arrays, naming) if origin.model is None else [origin.model]

    return graph_search.find(found.origin, found.documents, arrays, naming, models)


def _wired(graph: Graph, model: Model, naming: NamingStyle) -> Wiring:
    """Match a graph with a model.

    Raises:
        SymbolError: if they differ, or if the names of the file put a parameter in another place.
    """
    wired = wiring.match(graph, model)
    variables = {*wired.variables.values()}
    file_names = naming.resolve(model.mapping)
    plain = {file_name: name for name, file_name in naming_styles.plain(file_names.values()).items()}
    moved = [
        f"{tensor}: {wired.variables[tensor]} in the graph, {plain[file_name]} in {naming.file}"
        for tensor, file_name in file_names.items()
        if plain[file_name] in variables and wired.variables.get(tensor) != plain[file_name]
    ]
    if moved:
        headline = f"{graph.file}: takes parameters in another order than {naming.file} has them"
        raise SymbolError("\n  ".join([headline, *names.shorten(moved)]))
    return wired


def _require_own_gammas(
    graph: Graph, gammas: tuple[str, ...], structural: dict[str, AnyArray], arrays: Arrays, name: str
) -> None:
    """Refuse to change weights for a graph that only names the same layers as the file.

    Raises:
        SymbolError: if the graph fixes gammas at 1 that are not 1 in the file.
    """
    if {*graph.parameters} <= naming_styles.plain(arrays).keys():
        return
    given = [gamma for gamma in gammas if gamma in structural]
    changed = [gamma for gamma in given if not (np.asarray(structural[gamma]) == 1).all()]
    if changed:
        headline = f"{graph.file}: fixes gammas at 1 that are not 1 in {name}, and has other names"
        choose = "--symbol FILE says that it is the graph of these parameters"
        raise SymbolError("\n  ".join([headline, *names.shorten(names.collapse(changed), 10), choose]))


@contextlib.contextmanager
def open_source(origin: ParamsSource, progress: Progress) -> Iterator[ParamsFile]:
    """Find the parameters; what must be made or unpacked lies in a temporary folder while it is needed.

    Errors: ``SourceError``; also in the place of any other refusal, where the file was changed meanwhile.
    """
    with disk.temp_dir() as folder:
        found = _found(origin, folder, progress)
        try:
            yield found
        except ConversionError:
            params_file.require_unchanged(found)
            raise


def _found(origin: ParamsSource, folder: Path, progress: Progress) -> ParamsFile:
    model = origin.model
    if origin.params is not None:
        return params_file.from_file(origin.params, folder, progress)
    if model is None:
        raise SourceError("`auto` needs a file: --params FILE")
    if origin.seed is None:
        return gluoncv_zoo.take(model.published, folder, progress)
    path = folder / f"{model.name}.random-{origin.seed}.params"
    return params_file.from_arrays(  # which keeps no copy of the arrays
        synthetic.random_params(model.mapping, model.shapes, origin.seed), path, progress
    )


def _require_no_checkpoint(found: ParamsFile) -> None:
    """Refuse PyTorch's files by what they are, which says more than what is wrong with the first byte."""
    with contextlib.suppress(CheckpointError):  # then it is neither, and the reader says at which byte
        if (kind := checkpoint.kind(found.path)) in {Kind.torch, Kind.safetensors}:
            raise ParamsError(
                f"{found.origin}: a PyTorch checkpoint, {kind}; `gluon2torch to-gluon` goes the other way"
            )


def _resolved(model: Model, arrays: Arrays, naming: NamingStyle) -> dict[str, AnyArray]:
    """Return the arrays by structural names."""
    try:
        found = naming.resolve(model.mapping)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_gluon(arrays, naming)) from error
    return {name: arrays[file_name] for name, file_name in found.items()}
