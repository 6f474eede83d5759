"""Read a ``.params`` file and match it with its model, for conversions and parity checks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import CheckpointError, MappingError, ParamsError, StorageError, SymbolError
from converter.formats import checkpoint
from converter.formats.checkpoint import Kind
from converter.formats.params import Params, open_params
from converter.graphs import reader
from converter.networks import detection, graph_search, matching, naming_styles, wiring
from converter.storage import disk

if TYPE_CHECKING:
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.selection import ParamsSource
    from converter.networks.wiring import Wiring
    from converter.sources.params_file import ParamsFile


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


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Parameters that match their model; the arrays stay in the file.

    Attributes:
        model: the model, with the config that its file shows.
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
    content = _open(file)
    naming = naming_styles.read(content.arrays, str(file.user_path))
    graph = _graph(source, file, content.arrays, naming)
    model = _model(source, file, content.arrays, naming, graph)
    params = _structural_arrays(model, content.arrays, naming)
    model = detection.with_config_of(model, params)
    graph_wiring = _match_graph(graph, model, naming) if graph else None
    if graph_wiring is not None:
        if source.symbol is None:
            _require_own_gammas(graph_wiring, params, content.arrays, naming)
        params = _fix_gammas(graph_wiring, params)
    state = _rename(model, params, content.arrays, naming)
    return LoadedModel(model, model.mapping, params, state, LoadedParams(file, content, naming, graph_wiring))


def _open(file: ParamsFile) -> Params:
    """Read the headers of a file that must not have changed since it was selected."""
    name = str(file.user_path)
    _require_no_checkpoint(file)
    content = open_params(file.path, name=name)
    if file.archive is None and content.stamp != file.stamp:
        raise StorageError(f"{name}: {disk.CHANGED}")
    return content


def _model(
    source: ParamsSource, file: ParamsFile, arrays: Arrays, naming: NamingStyle, graph: Graph | None
) -> Model:
    """Return the selected model, or else the detected one."""
    if source.model is None:
        return detection.detect_model(
            arrays, naming, graph, lambda candidate: file.is_published(candidate.published)
        )
    detection.require_not_another(source.model, naming)
    return source.model


def find_graph(source: ParamsSource, file: ParamsFile) -> Graph | None:
    """Return the graph that ``load_model`` would match with the model, None if there is none.

    Raises:
        ConversionError: if the parameters or the graph cannot be read.
    """
    name = str(file.user_path)
    arrays = open_params(file.path, name=name).arrays
    return _graph(source, file, arrays, naming_styles.read(arrays, name))


def _graph(source: ParamsSource, file: ParamsFile, arrays: Arrays, naming: NamingStyle) -> Graph | None:
    """Return the graph of a user's file: the selected one, or else one that belongs to the file."""
    if source.symbol is not None:
        return reader.read(source.symbol)
    if source.params is None or not source.search_graph:
        return None

    def models() -> list[Model]:
        return detection.match_gluon(arrays, naming) if source.model is None else [source.model]

    return graph_search.find(file.user_path, file.documents, arrays, naming, models)


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
    graph_wiring: Wiring, params: dict[str, AnyArray], arrays: Arrays, naming: NamingStyle
) -> None:
    """Check that a graph with other names than the file does not change weights.

    Such a graph names the same layers, which does not prove that it belongs to the file.

    Raises:
        SymbolError: if the graph fixes gammas at 1 that are not 1 in the file.
    """
    graph = graph_wiring.graph
    if {*graph.parameters} <= naming_styles.plain(arrays).keys():
        return
    present = [gamma for gamma in graph_wiring.fixed_gammas if gamma in params]
    changed = [gamma for gamma in present if not (np.asarray(params[gamma]) == 1).all()]
    if changed:
        headline = (
            f"{graph.file}: the graph has other names than {naming.file}, and fixes gammas at 1 that are not "
            "1 there"
        )
        hint = "if it is the graph of these parameters, select it with --symbol FILE"
        raise SymbolError("\n  ".join([headline, *names.shorten(names.collapse(changed)), hint]))


def _fix_gammas(graph_wiring: Wiring, params: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the parameters with ones in place of the gammas that the graph fixes at 1."""
    fixed = {
        gamma: np.ones(params[gamma].shape, params[gamma].dtype)
        for gamma in graph_wiring.fixed_gammas
        if gamma in params
    }
    return params | fixed


def _rename(model: Model, params: Arrays, arrays: Arrays, naming: NamingStyle) -> Arrays:
    """Return the parameters by PyTorch's names; an error names the model that the file does match."""
    try:
        return matching.rename(model.mapping, params, model.shapes, naming.file)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_gluon(arrays, naming)) from error


def _require_no_checkpoint(file: ParamsFile) -> None:
    """Refuse PyTorch files by their kind: a clearer message than one about the first byte."""
    with contextlib.suppress(CheckpointError):  # neither kind: the reader reports the offset
        if (kind := checkpoint.kind(file.path)) in {Kind.torch, Kind.safetensors}:
            raise ParamsError(
                f"{file.user_path}: is a PyTorch checkpoint ({kind}), not a .params file\n"
                "  to convert it to Gluon: gluon2torch to-gluon"
            )


def _structural_arrays(model: Model, arrays: Arrays, naming: NamingStyle) -> dict[str, AnyArray]:
    """Return the arrays by structural name."""
    try:
        file_names = naming.resolve(model.mapping)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_gluon(arrays, naming)) from error
    return {name: arrays[file_name] for name, file_name in file_names.items()}
