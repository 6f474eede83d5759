"""Resolve what a user passes as a graph to a graph and its parameters.

| passed                              | graph                    | parameters                                |
|-------------------------------------|--------------------------|-------------------------------------------|
| ``net-symbol.json``                 | the file                 | ``net-0000.params``, by MXNet's rule      |
| ``net``, MXNet's prefix             | ``net-symbol.json``      | likewise                                  |
| folder                              | the only graph in it     | likewise, else the only parameters in it  |
| ``.mar``, ``.zip``, ``.tar(.gz)``   | the only graph in it     | the only ``.params`` in it                |
| ``mobilenet1.0``, GluonCV's name    | the recorded graph       | GluonCV's cache, then download            |

Selected parameters take precedence over those that the table names.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter import names
from converter.errors import SourceError, UsageError
from converter.formats import detect
from converter.formats.detect import GRAPH_SUFFIX
from converter.formats.kinds import PACKED
from converter.formats.params import open_params
from converter.graphs import candidates, reader
from converter.networks import graph_argument, recorded_graphs, recorded_parameters, recorded_sources
from converter.networks.graph_argument import JSON
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from converter.graphs.graph import Graph
    from converter.graphs.operators.code import Shape
    from converter.networks.recorded_parameters import MatchedNetwork
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

DATA = "data"  # the input of every recorded network


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSource:
    """A graph and its parameters.

    Attributes:
        graph: the graph.
        params: the parameters.
        recorded: the recorded network that the graph is of, None for the graph of a file.
    """

    graph: Graph
    params: ParamsFile
    recorded: MatchedNetwork | None = None

    @property
    def input_shapes(self) -> dict[str, Shape] | None:
        """The shapes of the inputs in a proof by default, None if they have to be derived from the graph."""
        return None if self.recorded is None else {DATA: self.recorded.network.entry.probe}


def open_source(  # noqa: PLR0913 - what a user selects
    place: str,
    params: Path | None,
    epoch: int | None,
    folder: Path,
    progress: Progress,
    *,
    seed: int | None = None,
) -> GraphSource:
    """Open a graph and its parameters.

    Args:
        place: a graph, a prefix, a folder, an archive, or GluonCV's name of a network with a recorded graph.
        params: the parameters, None for those of the graph.
        epoch: the epoch in the name of the parameters, None if there is only one.
        folder: where archives are unpacked.
        progress: called as bytes are read.
        seed: the seed of random parameters of a recorded network, None for real ones.

    Raises:
        UsageError: if ``params`` and ``epoch`` are given, if the graph has no parameters, or if random
            parameters are requested for the graph of a file.
        SourceError: if several graphs or parameters may be meant; the message lists them.
        StorageError: if a file does not exist or cannot be read.
        SymbolError: if the graph is malformed.
    """
    if params is not None and epoch is not None:
        raise UsageError("`params` and `epoch` cannot be used together", "params", "epoch")
    if graph_argument.is_recorded(place):
        return _open_recorded(place, params, epoch, seed, folder, progress)
    if seed is not None:
        raise UsageError("`random` requires the name of a network", "random")
    path = locate(place)
    if not is_archive(path):
        graph = reader.read(path)
        chosen = params or params_of(path, epoch, in_folder=disk.is_folder(Path(place)))
        return GraphSource(graph=graph, params=params_file.from_file(chosen, folder, progress))
    if epoch is not None:
        raise UsageError(f"`epoch` selects a file, but {path} is an archive", "epoch")
    packed = params_file.from_file(path, folder, progress)
    graph = in_archive(packed)
    if params is None:
        return GraphSource(graph=graph, params=packed)
    other = folder / "params"
    with disk.writing(other):
        other.mkdir()
    return GraphSource(graph=graph, params=params_file.from_file(params, other, progress))


def _open_recorded(  # noqa: PLR0913, PLR0917 - as open_source
    name: str, params: Path | None, epoch: int | None, seed: int | None, folder: Path, progress: Progress
) -> GraphSource:
    if epoch is not None:
        raise UsageError("`epoch` requires a graph in place of the name of a network", "epoch")
    network = recorded_graphs.load(name)
    file = recorded_sources.take(network, params, seed, folder, progress)
    arrays = open_params(file.path, name=str(file.user_path)).arrays
    matched = recorded_parameters.match(network, arrays, str(file.user_path))
    return GraphSource(graph=matched.network.graph, params=file, recorded=matched)


def command(graph: Graph, params: str | None) -> str:
    """Return the command that converts a graph.

    Args:
        graph: the graph.
        params: the file of its parameters or the archive of both, None if it is unknown.
    """
    if params is None:
        return "convert GRAPH OUT --params FILE"
    if graph.path is None:
        return f"convert {shlex.quote(params)} OUT"
    return f"convert {shlex.quote(str(graph.path))} OUT --params {shlex.quote(params)}"


def locate(place: str) -> Path:
    """Return the graph or the archive that a path, a prefix or a folder means.

    Raises:
        SourceError: if a folder contains no graph or several, or if a folder and a prefix may be meant.
        StorageError: if there is no such file; the message names files that may be meant instead.
        UsageError: if the file is neither a graph nor an archive.
    """
    path, prefixed = Path(place), Path(f"{place}{GRAPH_SUFFIX}")
    has_prefix = not _ends_in_separator(place) and candidates.exists(prefixed)
    if disk.is_folder(path):
        graphs = detect.graphs_in(path)
        if not has_prefix:
            return _only(path, graphs)
        if graphs:
            raise _several(f"{place}: both a folder with a graph and a prefix", [prefixed, *graphs])
        return prefixed
    if path.suffix == JSON or (candidates.exists(path) and graph_argument.is_graph_or_archive(path)):
        return path
    if has_prefix:
        return prefixed
    detect.require_file(path)
    raise UsageError(f"{place} is a file, not a model; use auto with `params` {place}", "params")


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, by its content."""
    return path.suffix != JSON and detect.kind(path) in PACKED


def params_of(graph: Path, epoch: int | None, *, in_folder: bool = False) -> Path:
    """Return the parameters of a graph, by MXNet's naming rule.

    Args:
        graph: the graph.
        epoch: the epoch in the name of the parameters, None for the only one.
        in_folder: whether the only parameters in the folder are those of the graph under any name.

    Raises:
        UsageError: if there are none.
        SourceError: if there are several, or none of this epoch.
    """
    found = detect.parameters_of(graph)
    if not found and in_folder:
        return params_in(graph.parent, epoch)
    if not found:
        expected = f"{graph.name.removesuffix(GRAPH_SUFFIX).removesuffix(JSON)}-0000.params"
        raise UsageError(
            "\n  ".join(
                [
                    f"{graph}: a graph requires its parameters, and no {expected} is next to it",
                    *names.shorten([*map(str, detect.params_in(graph.parent))], detect.MAX_LISTED),
                    "select a file with `params`",
                ]
            ),
            "params",
        )
    return _of_epoch(graph, found, epoch)


def params_in(folder: Path, epoch: int | None) -> Path:
    """Return the only parameters in a folder.

    Args:
        folder: the folder.
        epoch: the epoch in their name, None for any.

    Raises:
        SourceError: if there are several, or none of this epoch.
        StorageError: if there are none.
    """
    found = detect.params_in(folder)
    if not found:
        detect.require_file(folder)
    return _of_epoch(folder, found, epoch)


def in_archive(packed: ParamsFile) -> Graph:
    """Return the only graph in an archive.

    Raises:
        SourceError: if there is none, or several that differ.
        SymbolError: if it is malformed.
    """
    found = [*candidates.in_archive(packed.user_path, packed.documents)]
    found = [each for each in found if each.expected] or found
    if not found:
        raise SourceError(
            f"{packed.user_path}: contains no graph\n"
            "  expected  a -symbol.json next to the .params; pass the graph in place of the archive"
        )
    if len({each.content for each in found}) > 1:
        lines = [
            f"{packed.user_path}: contains {len(found)} graphs",
            *names.shorten([each.file for each in found]),
        ]
        raise SourceError("\n  ".join([*lines, "unpack it, and run convert GRAPH OUT --params FILE"]))
    return found[0].parse()


def _of_epoch(place: Path, found: list[Path], epoch: int | None) -> Path:
    """Return the only file, or the one of an epoch."""
    chosen = found if epoch is None else [path for path in found if epoch_of(path) == epoch]
    if len(chosen) == 1:
        return chosen[0]
    epochs = sorted({number for path in found if (number := epoch_of(path)) is not None})
    headline = f"{len(chosen)} parameter files" if chosen else f"no parameters of epoch {epoch}"
    step = f"select one with --epoch {epochs[-1]}, or with --params" if epochs else "select one with --params"
    lines = [f"{place}: {headline}", *names.shorten([*map(str, found)], detect.MAX_LISTED), step]
    raise SourceError("\n  ".join(lines))


def epoch_of(params: Path) -> int | None:
    """Return the epoch in the name of a parameter file, None if it has none."""
    match = candidates.EXPORTED.fullmatch(params.name)
    return int(match["epoch"][1:]) if match and match["epoch"] else None


def _only(folder: Path, graphs: list[Path]) -> Path:
    if len(graphs) == 1:
        return graphs[0]
    if graphs:
        raise _several(f"{folder}: contains {len(graphs)} graphs", graphs)
    packed = [f"convert {shlex.quote(str(path))} OUT" for path in detect.archives_in(folder)]
    lines = [
        f"{folder}: contains no graph, that is no -symbol.json",
        *names.shorten(packed, detect.MAX_LISTED),
    ]
    raise SourceError("\n  ".join(lines))


def _several(headline: str, graphs: list[Path]) -> SourceError:
    lines = [headline, *names.shorten([*map(str, graphs)], detect.MAX_LISTED)]
    step = f"select one: convert {shlex.quote(str(graphs[0]))} OUT"
    return SourceError("\n  ".join([*lines, step]))


def _ends_in_separator(place: str) -> bool:
    return place.endswith((os.sep, os.altsep or os.sep)) or Path(place).name in {"", ".."}
