"""Finds the graph that belongs to parameters: in the same archive, or else in the same folder.

A graph belongs to a file of parameters if nine tenths of their names are the same, or name the same layers in
another style, whatever the two files are called. The few names that may differ are then found by matching it
with the model. Where MXNet's own rule names the graph, ``net-symbol.json`` for ``net-0000.params``, that one
is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ConversionError, SymbolError
from converter.graphs import candidates, operators, reader
from converter.graphs.graph import VARIABLE
from converter.networks import naming_styles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.graphs.candidates import Candidate
    from converter.graphs.graph import Graph, Node
    from converter.networks.catalog import Model
    from converter.networks.naming_styles import NamingStyle
    from resnext_torch.config import Shape

OVERLAP = 0.9  # of the names; a network with half as many layers has an overlap of 0.5
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
    if packed := list(search.read(candidates.in_archive(file, documents))):
        return packed[0] if len(packed) == 1 else search.choose(packed, required=True)
    if search.is_exported and candidates.exists(search.partner):
        return reader.read(search.partner)
    graph = search.choose(list(search.read(candidates.in_folder(file))), required=False)
    if graph is None and search.damaged:
        raise search.damaged[0]
    return graph


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
        self.partner, self.is_exported = candidates.partner(file)
        self.damaged: list[SymbolError] = []

    def read(self, known: Iterable[Candidate]) -> Iterator[Graph]:
        """Yield the graphs among some candidates.

        Raises:
            SymbolError: if one is damaged and is the graph of the parameters by its name or its contents.
        """
        for candidate in known:
            try:
                yield candidate.parse()
            except SymbolError as error:
                if candidate.expected or self._is_mentioned(candidate.content):
                    raise
                if candidate.may_belong_to(self.file):
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
        own = [
            graph for graph, _ in known if not (graph.path and candidates.is_of_others(graph.path, self.file))
        ]
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
