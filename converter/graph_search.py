"""Finds the graph that belongs to parameters: in the same archive, or else in the same folder.

A graph belongs to a file of parameters if its parameters have the same names and shapes, whatever the two
files are called. Where MXNet's own rule names the graph, ``net-symbol.json`` for ``net-0000.params``, that
one is taken.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import ConversionError, SymbolError
from converter.files import disk
from converter.graphs import operators, reader
from converter.graphs.graph import VARIABLE
from converter.models import dialects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from converter.files.stored import Arrays
    from converter.graphs.graph import Graph, Node
    from converter.models.catalog import Model
    from converter.models.dialects import Naming
    from resnext_torch.config import Shape

EXPORTED = re.compile(r"(?P<prefix>.+?)(?P<epoch>-[0-9]{4,})?\.params(\.gz|\.zip)?")
BEGIN_BYTES = 64  # enough for the brace of a JSON object
MENTIONS = 3  # names of parameters that a damaged graph must hold to be about them
CHOOSE = "--symbol FILE names the right one"


def find(
    file: Path,
    documents: dict[str, bytes],
    arrays: Arrays,
    naming: Naming,
    models: Callable[[], Collection[Model]],
) -> Graph | None:
    """Return the graph of some parameters, None if there is none.

    Args:
        file: the file of the parameters, or the archive of it.
        documents: the JSON files in that archive.
        arrays: the parameters by their names in the file.
        naming: the style of these names.
        models: the models that the parameters may belong to; needed for graphs that use other names.

    Raises:
        SymbolError: if two different graphs fit, or the one that belongs to the file cannot be read.
    """
    search = _Search(file, arrays, naming, models)
    if packed := list(_packed(file, documents)):
        fitting = (
            packed if len(packed) == 1 else [graph for graph in packed if search.rank(graph) is not None]
        )
        return _only(file, fitting or packed)
    if search.epoch and _is_file(search.partner):
        return reader.read(search.partner)
    ranked = [(graph, search.rank(graph)) for graph in search.in_folder()]
    best = min((rank for _, rank in ranked if rank is not None), default=None)
    return _only(file, [graph for graph, rank in ranked if rank is not None and rank == best])


class _Search:
    """A search for the graph of some parameters."""

    def __init__(
        self,
        file: Path,
        arrays: Arrays,
        naming: Naming,
        models: Callable[[], Collection[Model]],
    ) -> None:
        self.folder = file.parent
        self.arrays = arrays
        self.naming = naming
        self.models = models
        self.shapes = {plain: arrays[name].shape for plain, name in dialects.plain(arrays).items()}
        match = EXPORTED.fullmatch(file.name)
        prefix = match["prefix"] if match else file.stem
        self.epoch = match is not None and match["epoch"] is not None
        self.partner = file.with_name(f"{prefix}-symbol.json")

    def in_folder(self) -> Iterator[Graph]:
        """Yield the graphs next to the parameters."""
        for path in _objects(self.folder, self.partner):
            try:
                content = disk.read_small(path, reader.MAX_BYTES, SymbolError)
                if path == self.partner or _is_graph(content):
                    yield reader.parse(content, file=str(path), name=disk.file_name(path), path=path)
            except SymbolError:
                if path == self.partner or self._is_mentioned(path):
                    raise

    def rank(self, graph: Graph) -> int | None:
        """Return how well a graph fits: 0 by its names, 1 in another naming style, None if it does not."""
        if graph.path is not None and graph.path == self.partner:
            return 0
        if {*graph.parameters} <= self.shapes.keys() <= {*graph.variables}:
            return 0 if _takes(graph, self.shapes) else None
        return 1 if any(self._fits_as(graph, model) for model in self.models()) else None

    def _fits_as(self, graph: Graph, model: Model) -> bool:
        """Return whether graph and parameters name the same layers of a model in different styles."""
        try:
            variables = dialects.read(graph.parameters, graph.file).resolve(model.mapping)
            file_names = self.naming.resolve(model.mapping)
        except ConversionError:
            return False
        same = variables.keys() == file_names.keys()
        return same and _takes(
            graph, {name: self.arrays[file_names[key]].shape for key, name in variables.items()}
        )

    def _is_mentioned(self, path: Path) -> bool:
        """Return whether a damaged graph names the parameters."""
        with contextlib.suppress(SymbolError):
            content = disk.read_small(path, reader.MAX_BYTES, SymbolError)
            some = [name for name, _ in zip(self.shapes, range(MENTIONS), strict=False)]
            return bool(some) and all(f'"{name}"'.encode() in content for name in some)
        return False


def _packed(archive: Path, documents: dict[str, bytes]) -> Iterator[Graph]:
    """Yield the graphs in an archive."""
    for name, content in documents.items():
        if _is_graph(content):
            yield reader.parse(content, file=f"{archive}: {name}", name=Path(name).name)


def _objects(folder: Path, partner: Path) -> Iterator[Path]:
    """Yield the readable files of a folder that hold a JSON object, sorted by name."""
    try:
        paths = sorted(Path(entry.path) for entry in os.scandir(folder))
    except OSError:  # it may be entered and not listed
        paths = [partner]
    for path in paths:
        with contextlib.suppress(OSError):
            if path.is_file() and (path == partner or _is_object(path)):
                yield path


def _is_file(path: Path) -> bool:
    """Return whether a file exists; a name that is too long for the file system does not."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_object(path: Path) -> bool:
    """Return whether a file is small and begins as a JSON object."""
    if path.stat().st_size > reader.MAX_BYTES:
        return False
    with path.open("rb") as stream:
        return stream.read(BEGIN_BYTES).lstrip()[:1] == b"{"


def _is_graph(content: bytes) -> bool:
    return b'"nodes"' in content  # which a truncated graph has too


def _takes(graph: Graph, shapes: dict[str, Shape]) -> bool:
    """Return whether a graph's convolutions and dense layers can take weights of these shapes."""
    return all(_takes_weight(graph, node, shapes) for node in graph.nodes)


def _takes_weight(graph: Graph, node: Node, shapes: dict[str, Shape]) -> bool:
    operation = node.operation
    if operation.kind not in {operators.CONVOLUTION, operators.DENSE}:
        return True
    weight = graph.nodes[node.inputs[1][0]]
    if weight.operation.kind != VARIABLE:  # a cast, say, whose input is not looked at here
        return True
    shape = shapes.get(weight.name, ())
    if operation.kind == operators.DENSE:
        return shape[:1] == (operation.settings["outputs"],)
    kernel = operation.settings["kernel"]
    sizes = kernel if isinstance(kernel, tuple) else (kernel,) * (len(shape) - 2)
    return shape[:1] == (operation.settings["filters"],) and shape[2:] == sizes


def _only(file: Path, graphs: list[Graph]) -> Graph | None:
    """Return the one graph there is; copies of one are the same."""
    different = [graph for number, graph in enumerate(graphs) if graph not in graphs[:number]]
    if len(different) > 1:
        files = [graph.file for graph in different]
        raise SymbolError(
            "\n  ".join([f"{file}: more than one graph fits it, and they differ", *files, CHOOSE])
        )
    return different[0] if different else None
