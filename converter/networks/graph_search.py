"""Finds the graph that belongs to parameters: in the same archive, or else in the same folder.

A graph belongs to a file of parameters if nine tenths of their names are the same, or name the same layers in
another style, whatever the two files are called. The few names that may differ are then found by matching it
with the model. Where MXNet's own rule names the graph, ``net-symbol.json`` for ``net-0000.params``, that one
is taken.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ConversionError, SymbolError
from converter.formats.archives import GRAPH_SUFFIX
from converter.graphs import operators, reader
from converter.graphs.graph import VARIABLE
from converter.networks import naming_styles
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph, Node
    from converter.networks.catalog import Model
    from converter.networks.naming_styles import NamingStyle
    from resnext_torch.config import Shape

EXPORTED = re.compile(r"(?P<prefix>.+?)(?P<epoch>-[0-9]{4,})?\.params(\.gz|\.zip)?")
OVERLAP = 0.9  # of the names; a network with half as many layers has an overlap of 0.5
BEGIN_BYTES = 64  # enough for the brace of a JSON object
MENTIONS = 3  # parameter names that a damaged file must contain to count as their graph
MAX_LINES = 10  # of an error


def find(
    file: Path,
    documents: dict[str, bytes],
    arrays: Arrays,
    naming: NamingStyle,
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
        SymbolError: if two different graphs fit, if one has the names of the parameters and other shapes, or
            if one that may belong to the file cannot be read.
    """
    search = _Search(file, arrays, naming, models)
    if packed := list(search.read(_packed(file, documents))):
        return packed[0] if len(packed) == 1 else search.choose(packed, required=True)
    if search.epoch and _exists(search.partner):
        return reader.read(search.partner)
    graph = search.choose(list(search.read(search.objects())), required=False)
    if graph is None and search.damaged:
        raise search.damaged[0]
    return graph


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A JSON object that may be a graph.

    Attributes:
        file: what messages call it.
        name: the file's own name.
        content: its bytes.
        path: where it is, None for a member of an archive.
        expected: whether its name alone says that it is the graph of the parameters.
    """

    file: str
    name: str
    content: bytes
    path: Path | None
    expected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """How a graph fits.

    Attributes:
        in_another_style: whether it names the same layers in another style than the file does.
        takes: whether it can take weights of the file's shapes.
        tensors: its parameters by structural names, where they are known.
    """

    in_another_style: bool
    takes: bool = True
    tensors: dict[str, str] = field(default_factory=dict)


class _Search:
    """A search for the graph of some parameters."""

    def __init__(
        self,
        file: Path,
        arrays: Arrays,
        naming: NamingStyle,
        models: Callable[[], Collection[Model]],
    ) -> None:
        self.file = file
        self.arrays = arrays
        self.naming = naming
        self.models = models
        self.shapes = {plain: arrays[name].shape for plain, name in naming_styles.plain(arrays).items()}
        match = EXPORTED.fullmatch(file.name)
        prefix = match["prefix"] if match else file.stem
        self.epoch = match is not None and match["epoch"] is not None
        self.partner = file.with_name(f"{prefix}{GRAPH_SUFFIX}")
        self.damaged: list[SymbolError] = []

    def objects(self) -> Iterator[_Candidate]:
        """Yield the JSON objects of the folder that look like graphs, sorted by name.

        Raises:
            SymbolError: if the one that MXNet's rule names cannot be read.
        """
        for path in _readable(self.file.parent, self.partner):
            expected = path == self.partner
            try:
                content = disk.read_small(path, reader.MAX_BYTES, SymbolError)
            except SymbolError as error:
                if expected:
                    raise
                self._note_damage(path, error)
                continue
            if expected or _is_graph(content) or path.name.endswith(GRAPH_SUFFIX):
                name = disk.file_name(path)
                yield _Candidate(file=str(path), name=name, content=content, path=path, expected=expected)

    def read(self, candidates: Iterable[_Candidate]) -> Iterator[Graph]:
        """Yield the graphs among some JSON objects.

        Raises:
            SymbolError: if one is damaged and is the graph of the parameters by its name or its contents.
        """
        for candidate in candidates:
            try:
                yield reader.parse(
                    candidate.content, file=candidate.file, name=candidate.name, path=candidate.path
                )
            except SymbolError as error:
                if candidate.expected or self._is_mentioned(candidate.content):
                    raise
                if candidate.path:
                    self._note_damage(candidate.path, error)

    def _note_damage(self, path: Path, error: SymbolError) -> None:
        """Keep the error of a graph that cannot be read and may be that of the parameters."""
        if path.name.endswith(GRAPH_SUFFIX) and not _is_of_others(path, self.file):
            self.damaged.append(error)

    def choose(self, graphs: list[Graph], *, required: bool) -> Graph | None:
        """Return the graph that fits best; copies count as one.

        Args:
            graphs: the candidates.
            required: whether one of them has to fit.

        Raises:
            SymbolError: if two fit equally well and differ, if one only has other shapes, or if one is
                required and none fits.
        """
        known = [(graph, fit) for graph in graphs if (fit := self._fit(graph)) is not None]
        fitting = [(graph, fit) for graph, fit in known if fit.takes]
        best = min((fit.in_another_style for _, fit in fitting), default=None)
        chosen = [(graph, fit) for graph, fit in fitting if fit.in_another_style == best]
        different = {
            number: graph
            for number, (graph, fit) in enumerate(chosen)
            if not any(_is_same(graph, fit, *other) for other in chosen[:number])
        }
        if len(different) > 1:
            raise self._refusal("more than one graph fits it, and they differ", [*different.values()])
        if different:
            return next(iter(different.values()))
        own = [graph for graph, _ in known if not (graph.path and _is_of_others(graph.path, self.file))]
        if own:
            raise self._refusal("this graph names its layers and needs other shapes", own)
        if required:
            raise self._refusal(
                f"{len(graphs)} graphs are in the archive, and none has its parameters", graphs
            )
        return None

    def _refusal(self, reason: str, graphs: list[Graph]) -> SymbolError:
        is_packed = any(graph.path is None for graph in graphs)
        return SymbolError(
            "\n  ".join(
                [
                    f"{self.file}: {reason}",
                    *names.shorten([graph.file for graph in graphs], MAX_LINES),
                    f"{'unpack the archive; ' if is_packed else ''}--symbol FILE names the right one",
                ]
            )
        )

    def _fit(self, graph: Graph) -> _Fit | None:
        """Return how a graph fits the parameters, None if it does not."""
        if graph.path is not None and graph.path == self.partner:
            return _Fit(in_another_style=False)
        variables = {*graph.variables}
        if {*graph.parameters} <= self.shapes.keys() <= variables:
            return _Fit(in_another_style=False, takes=_takes(graph, self.shapes))
        named = {*naming_styles.parameters(variables)}
        if named <= self.shapes.keys() and len(named) >= OVERLAP * len(self.shapes):
            return _Fit(in_another_style=False)
        fits = (self._fit_as(graph, model) for model in self.models())
        return next((fit for fit in fits if fit is not None), None)

    def _fit_as(self, graph: Graph, model: Model) -> _Fit | None:
        """Return how a graph names the layers of a model in another style than the parameters do."""
        style = self._style(graph)
        if style is None:
            return None
        if min(style.overlap(model.mapping), self.naming.overlap(model.mapping)) < OVERLAP:
            return None
        try:
            file_names = self.naming.resolve(model.mapping)
            variables = style.resolve(model.mapping)
        except ConversionError:  # which matching the graph with the model reports
            return _Fit(in_another_style=True)
        if variables.keys() != file_names.keys():
            return _Fit(in_another_style=True)
        shapes = {name: self.arrays[file_names[tensor]].shape for tensor, name in variables.items()}
        tensors = {name: tensor for tensor, name in variables.items()}
        takes = _takes(graph, shapes)
        if not takes and style.prefix and style.prefix == self.naming.prefix:
            return None  # of before the head was replaced
        return _Fit(in_another_style=True, takes=takes, tensors=tensors)

    def _style(self, graph: Graph) -> NamingStyle | None:
        """Return the names of a graph's parameters, None if they are of another network of the same kind."""
        try:
            style = naming_styles.read(naming_styles.parameters(graph.variables), graph.file)
        except ConversionError:
            return None
        other = style.prefix and self.naming.prefix and style.prefix != self.naming.prefix
        return None if other else style

    def _is_mentioned(self, content: bytes) -> bool:
        """Return whether a damaged graph names the parameters."""
        some = [name for name, _ in zip(self.shapes, range(MENTIONS), strict=False)]
        return bool(some) and all(f'"{name}"'.encode() in content for name in some)


def _packed(archive: Path, documents: dict[str, bytes]) -> Iterator[_Candidate]:
    """Yield the JSON objects of an archive that look like graphs."""
    for member, content in documents.items():
        name = Path(member).name
        if _is_graph(content) or name.endswith(GRAPH_SUFFIX):
            yield _Candidate(
                file=f"{archive}: {member}",
                name=name,
                content=content,
                path=None,
                expected=name.endswith(GRAPH_SUFFIX),
            )


def _readable(folder: Path, partner: Path) -> Iterator[Path]:
    """Yield the readable files of a folder that hold a JSON object, sorted by name."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # it may be entered and not listed
        paths = [partner]
    for path in paths:
        with contextlib.suppress(OSError):
            if (path == partner and _exists(path)) or (
                path.is_file() and (path.name.endswith(GRAPH_SUFFIX) or _is_object(path))
            ):
                yield path


def _is_of_others(graph: Path, file: Path) -> bool:
    """Return whether MXNet's rule assigns a graph to another file of parameters that exists."""
    prefix = graph.name.removesuffix(GRAPH_SUFFIX)
    try:
        others = {path.name for path in graph.parent.iterdir()} - {file.name}
    except OSError:
        return False
    exported = filter(None, map(EXPORTED.fullmatch, others))
    return any(match["prefix"] == prefix for match in exported)


def _is_same(graph: Graph, fit: _Fit, other: Graph, other_fit: _Fit) -> bool:
    """Return whether two graphs are the same, names of nodes that are no variables aside."""
    return graph.outputs == other.outputs and _content(graph, fit) == _content(other, other_fit)


def _content(graph: Graph, fit: _Fit) -> list[object]:
    return [
        (node.operation, node.inputs, fit.tensors.get(node.name, node.name))
        if node.operation.kind == VARIABLE
        else (node.operation, node.inputs)
        for node in graph.nodes
    ]


def _exists(path: Path) -> bool:
    """Return whether something has this name, a broken link included; no file has one that is too long."""
    try:
        return path.exists() or path.is_symlink()
    except OSError:
        return path.is_symlink()


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
