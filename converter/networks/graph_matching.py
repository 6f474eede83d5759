"""Find the graph of parameters and match it with their network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import SymbolError
from converter.formats.params import open_params
from converter.graphs import reader
from converter.networks import graph_search, naming_styles, preparation, resolution, wiring

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.location import LocatedNetwork
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.preparation import PreparedArrays
    from converter.networks.selection import ParamsSource
    from converter.networks.wiring import Wiring
    from converter.sources.params_file import ParamsFile


EXPORTED = "try         the .params exported with this graph"


def find_of_file(source: ParamsSource, file: ParamsFile) -> Graph | None:
    """Return the graph that ``load_model`` would match with the model, None if there is none.

    Raises:
        ConversionError: if the parameters or the graph cannot be read.
    """
    name = str(file.user_path)
    arrays = open_params(file.path, name=name).arrays
    prepared = preparation.prepare(arrays, name)
    return find(source, file, arrays, resolution.find_usable(source, prepared.arrays, name))


def find(
    source: ParamsSource, file: ParamsFile, arrays: Arrays, locations: Collection[LocatedNetwork]
) -> Graph | None:
    """Return the graph of a user's file: the selected one, or else one that belongs to the file.

    Args:
        source: what the user selected.
        file: the file.
        arrays: all arrays in it.
        locations: the networks that match them.

    Raises:
        SymbolError: if a graph cannot be read, or if it is uncertain which graph belongs to the file.
    """
    if source.symbol is not None:
        return reader.read(source.symbol)
    if source.params is None or not source.search_graph:
        return None
    naming = next(iter(locations)).naming

    def models() -> list[Model]:
        return [each.model for each in locations]

    return graph_search.find(file.user_path, file.documents, arrays, naming, models)


def match(
    graph: Graph, located: LocatedNetwork, prepared: PreparedArrays, *, any_stride: bool
) -> tuple[LocatedNetwork, Wiring]:
    """Match a graph with the network of its parameters.

    Args:
        graph: the graph.
        located: the network.
        prepared: the arrays of the file.
        any_stride: whether the network may have another output stride, which only the graph shows.

    Returns:
        The network with the output stride of the graph, and the wiring.

    Raises:
        SymbolError: if they differ, or if the file's names assign a parameter to another layer.
    """
    model, naming = located.model, located.naming
    if any_stride:
        model, graph_wiring = wiring.match_any_stride(graph, model, naming)
        located = located.with_output_stride(model.config.output_stride)
    else:
        graph_wiring = wiring.match(graph, model, naming)
    variables, in_graph = graph_wiring.variables, {*graph_wiring.variables.values()}
    plain = {file_name: name for name, file_name in naming_styles.plain(prepared.arrays).items()}
    in_file = {*plain.values()}
    moved = [
        f"{tensor}: {variables[tensor]} in the graph, {plain[file_name]} in {naming.file}"
        for tensor, file_name in naming.resolve(model.mapping).items()
        if plain[file_name] != variables.get(tensor)
        and (plain[file_name] in in_graph or variables.get(tensor) in in_file)
    ]
    if moved:
        headline = f"{graph.file}: the graph assigns parameters to other layers than {naming.file}"
        raise SymbolError("\n  ".join([headline, *names.shorten(moved), EXPORTED]))
    if located.wrapping is not None and located.wrapping.is_one_of_several_heads and not in_graph <= in_file:
        raise SymbolError(
            f"{graph.file}: {naming.file} has several heads, and the graph names none of them\n"
            "  try         the parameters without the heads that the network does not use"
        )
    preprocessing = prepared.preprocessing
    constants = tuple(naming_styles.plain(preprocessing.names)) if preprocessing else ()
    if graph_wiring.constants != constants:
        raise SymbolError(f"{graph.file}: {_other_constants(graph_wiring, constants, naming)}\n  {EXPORTED}")
    return located, graph_wiring


def _other_constants(graph_wiring: Wiring, constants: tuple[str, ...], naming: NamingStyle) -> str:
    """Return how a graph's normalization of images differs from the one in the parameters."""
    if graph_wiring.constants:
        own = ", ".join(graph_wiring.constants)
        return f"normalizes images with {own}, which {naming.file} does not contain"
    return f"does not normalize images, but {naming.file} contains {', '.join(constants)}"


def require_own_gammas(
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


def fix_gammas(graph_wiring: Wiring, params: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the parameters with ones in place of the gammas that the graph fixes at 1."""
    fixed = {
        gamma: np.ones(params[gamma].shape, params[gamma].dtype)
        for gamma in graph_wiring.fixed_gammas
        if gamma in params
    }
    return params | fixed
