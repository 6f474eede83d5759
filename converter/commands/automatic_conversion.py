"""Convert parameters as a model or, if they are those of none, from the graph next to them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.commands import conversion, graph_conversion
from converter.errors import ConversionError, DialectError, MappingError, SourceError, UsageError
from converter.formats.params import open_params
from converter.graphs import reader
from converter.networks import (
    graph_search,
    graph_source,
    location,
    preparation,
    recorded_detection,
    resolution,
)
from converter.networks.selection import AUTO, ParamsSource
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from converter.commands.conversion import ConversionResult
    from converter.commands.graph_conversion import GraphConversionResult
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.networks.location import LocatedNetwork
    from converter.progress import Progress

KEEP = "keep"
LABELS_HINT = "\n  try  gluon2torch predict --labels, which names the classes of a converted graph"
UNFIT = (DialectError, MappingError, SourceError)  # a SourceError: the published file of another model


def convert(  # noqa: PLR0913 - the options of the command
    model: str,
    out: Path,
    *,
    params: Path | None = None,
    epoch: int | None = None,
    source: str | None = None,
    random: int | None = None,
    symbol: Path | None = None,
    backbone: bool = False,
    output_stride: int | None = None,
    labels: Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dtype: str = KEEP,
    pth: bool = False,
    exports: Sequence[str] = (),
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> ConversionResult | GraphConversionResult:
    """Convert a model as ``conversion.convert`` does; with "auto", parameters of no model from their graph.

    Args:
        model: the model's name, or "auto".
        out: output folder.
        params: the parameters, an archive of them or, with "auto", a folder with one such file.
        epoch: the epoch in the name of the parameters, if the folder has several.
        source: as in ``conversion.convert``, like the others that follow.
        random: seed of random parameters.
        symbol: the graph; by default it is searched for in the folder or archive of the parameters.
        backbone: excludes the conversion of a graph.
        output_stride: requires a model, like ``labels`` and ``dtype``.
        labels: file of class names.
        input_shapes: of a graph, the shapes of inputs in the proof, by name.
        dtype: type of the written weights.
        pth: whether to write a ``.pth`` too.
        exports: files of the whole network to write, "onnx" and "pt2".
        options: how to prove the conversion.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if an option does not apply.
        ConversionError: if a step fails. If the parameters contain a model but do not convert as one,
            the message also names the command that converts their graph.
    """
    if model == AUTO and params is not None and disk.is_folder(params):
        params = graph_source.params_in(params, epoch)
    elif epoch is not None:
        raise UsageError("`epoch` requires a graph, or a folder of parameters", "epoch")
    try:
        return conversion.convert(
            model,
            out,
            params=params,
            source=source,
            random=random,
            symbol=symbol,
            backbone=backbone,
            output_stride=output_stride,
            labels=labels,
            dtype=dtype,
            pth=pth,
            exports=exports,
            options=options,
            progress=progress,
        )
    except UNFIT as error:
        if model != AUTO or params is None or backbone:
            raise
        fallback = _find_fallback(error, params, symbol, progress)
        if fallback is None:
            raise
    others = {"output_stride": output_stride, "labels": labels}
    require_none(others | {"dtype": None if dtype == KEEP else dtype}, str(fallback))
    try:
        return graph_conversion.convert_graph(
            fallback.place or params,
            out,
            params=params if fallback.place else None,
            input_shapes=input_shapes,
            pth=pth,
            exports=exports,
            options=options,
            progress=progress,
        )
    except UsageError as error:
        if "input_shapes" not in error.parameters or fallback.graph is None:
            raise
        command = graph_source.command(fallback.graph, str(params))
        raise UsageError(f"{error}\n  with     {command}", *error.parameters) from error


def graph_command(params: Path, progress: Progress = silent) -> str | None:
    """Return the command that converts parameters from their graph, None if no graph is known for them.

    Args:
        params: the file, or an archive of it.
        progress: called as bytes are read.

    Raises:
        MappingError: if they fit several recorded networks.
        SymbolError: if a graph is malformed, or if several match.
        ConversionError: if the file cannot be read.
    """
    with disk.temp_dir() as folder:
        file = params_file.from_file(params, folder, progress)
        arrays = open_params(file.path, name=str(params)).arrays
        graph = graph_search.find(params, file.documents, arrays)
        if graph is not None:
            return graph_source.command(graph, str(params))
        network = recorded_detection.detect(arrays, file.sha1, str(params))
        return network and f"convert {network} OUT --params {shlex.quote(str(params))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fallback:
    """What parameters of no model are converted from.

    Attributes:
        graph: their graph, None if there is none.
        network: GluonCV's name of the network whose graph was recorded, None for the graph of a file.
    """

    graph: Graph | None = None
    network: str | None = None

    @property
    def place(self) -> Path | str | None:
        """What ``convert_graph`` takes, None if the graph is in the archive of the parameters."""
        return self.network or (self.graph.path if self.graph else None)

    def __str__(self) -> str:
        return self.network or (self.graph.file if self.graph else "")


def _find_fallback(
    error: ConversionError, params: Path, symbol: Path | None, progress: Progress
) -> _Fallback | None:
    """Return the graph of parameters that contain no model, or the recorded network; None without either.

    Args:
        error: why they did not convert as a named network.
        params: the file.
        symbol: the selected graph.
        progress: called as bytes are read.

    Raises:
        MappingError: if they contain a model, and have a graph; or if they fit several recorded networks.
        SymbolError: if a graph is malformed, or if several match.
    """
    with disk.temp_dir() as folder:
        file = params_file.from_file(params, folder, progress)
        arrays = open_params(file.path, name=str(params)).arrays
        if symbol is not None:
            graph: Graph | None = reader.read(symbol)
        else:
            graph = graph_search.find(params, file.documents, arrays)
        locations = _locate(arrays, str(params))
        if graph is None:
            if not all(each.is_backbone for each in locations):
                return None
            name = recorded_detection.detect(arrays, file.sha1, str(params))
            return None if name is None else _Fallback(network=name)
        if not locations:
            return _Fallback(graph=graph)
        try:
            resolution.require_usable(locations, ParamsSource(None), arrays, str(params))
        except MappingError:
            command = graph_source.command(graph, str(params))
            raise MappingError(f"{error}; or {command}, which converts the graph as it is") from error
    return None


def _locate(arrays: Arrays, file: str) -> list[LocatedNetwork]:
    """Return the named networks that the parameters contain."""
    try:
        prepared = preparation.prepare(arrays, file)
    except (DialectError, MappingError):
        return []
    return location.locate(prepared.arrays, file)


def require_none(options: dict[str, object], source: str) -> None:
    """Check that no option is given that does not apply to a graph.

    Args:
        options: the values by name; None for one that is not given.
        source: what is converted: the file of a graph, or GluonCV's name of a network.

    Raises:
        UsageError: with the option.
    """
    for name, value in options.items():
        if value is not None:
            hint = LABELS_HINT if name == "labels" else ""
            raise UsageError(f"`{name}` cannot be used: {source} becomes a generated module{hint}", name)
