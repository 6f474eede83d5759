"""Find the graph that belongs to parameters: in the same archive, or else in the same folder.

A graph belongs to a parameter file if at least nine tenths of the names are the same, or name the same
layers in another style; file names do not matter. The names that differ are reported when the graph is
matched with the model. A graph that MXNet's export rule names, ``net-symbol.json`` for
``net-0000.params``, takes precedence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ConversionError, StorageError, SymbolError
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
MENTIONS = 3  # parameter names that a damaged file must contain to count as the graph


def find(
    file: Path,
    documents: dict[str, bytes],
    arrays: Arrays,
    naming: NamingStyle | None = None,
    models: Callable[[], Collection[Model]] = tuple,
) -> Graph | None:
    """Return the graph of a parameter file, None if there is none.

    Args:
        file: the parameter file, or the archive that contains it.
        documents: the JSON files in that archive.
        arrays: the parameters by their names in the file.
        naming: the style of these names, None if they belong to none of the models.
        models: returns the models that the parameters may belong to; called for graphs with other names.

    Raises:
        SymbolError: if two different graphs fit, if a graph has the parameters' names but other shapes,
            or if a file that may be the graph is malformed.
        StorageError: if a file that may be the graph cannot be read.
    """
    search = _Search(file, arrays, naming, models)
    if graphs := list(search.read(candidates.in_archive(file, documents))):
        return graphs[0] if len(graphs) == 1 else search.choose(graphs, required=True)
    if search.is_exported and candidates.exists(search.partner):
        return reader.read(search.partner)
    graph = search.choose(list(search.read(candidates.in_folder(file))), required=False)
    if graph is None and search.damaged:
        raise search.damaged[0]
    return graph


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """How a graph fits the parameters.

    Attributes:
        in_another_style: whether it names the same layers in another style than the file does.
        takes: whether its operators accept the shapes of the file's weights.
        tensors: the structural name of each of its parameters, by variable name; empty if not resolved.
    """

    in_another_style: bool
    takes: bool = True
    tensors: dict[str, str] = field(default_factory=dict)


class _Search:
    """A search for the graph of a parameter file."""

    def __init__(
        self,
        file: Path,
        arrays: Arrays,
        naming: NamingStyle | None,
        models: Callable[[], Collection[Model]],
    ) -> None:
        self.file = file
        self.arrays = arrays
        self.naming = naming
        self.models = models
        self.shapes = {plain: arrays[name].shape for plain, name in naming_styles.plain(arrays).items()}
        self.partner, self.is_exported = candidates.partner(file)
        self.damaged: list[StorageError | SymbolError] = []

    def read(self, files: Iterable[Candidate]) -> Iterator[Graph]:
        """Yield the graphs among the candidates.

        Raises:
            SymbolError: if a malformed one is the graph of the parameters by its name or content.
            StorageError: if one that is the graph by its name cannot be read.
        """
        for candidate in files:
            try:
                yield candidate.parse()
            except (StorageError, SymbolError) as error:
                if candidate.expected or self._is_mentioned(candidate.content):
                    raise
                if candidate.may_belong_to(self.file):
                    self.damaged.append(error)

    def choose(self, graphs: list[Graph], *, required: bool) -> Graph | None:
        """Return the graph that fits best; copies of a graph count as one.

        Args:
            graphs: the candidates.
            required: whether one of them has to fit.

        Raises:
            SymbolError: if two graphs fit equally well and differ, if the only match has other shapes,
                or if a graph is required and none fits.
        """
        matches = [(graph, fit) for graph in graphs if (fit := self._fit(graph)) is not None]
        fitting = [(graph, fit) for graph, fit in matches if fit.takes]
        best = min((fit.in_another_style for _, fit in fitting), default=None)
        chosen = [(graph, fit) for graph, fit in fitting if fit.in_another_style == best]
        different = {
            number: graph
            for number, (graph, fit) in enumerate(chosen)
            if not any(_is_same(graph, fit, *other) for other in chosen[:number])
        }
        if len(different) > 1:
            raise self._refusal("more than one graph matches, and they differ", [*different.values()])
        if different:
            return next(iter(different.values()))
        misfits = [
            graph
            for graph, _ in matches
            if not (graph.path and candidates.belongs_to_other_params(graph.path, self.file))
        ]
        if misfits:
            raise self._refusal("this graph has its layers, but needs other shapes", misfits)
        if required:
            raise self._refusal(
                f"none of the {len(graphs)} graphs in the archive has these parameters", graphs
            )
        return None

    def _refusal(self, reason: str, graphs: list[Graph]) -> SymbolError:
        is_packed = any(graph.path is None for graph in graphs)
        return SymbolError(
            "\n  ".join(
                [
                    f"{self.file}: {reason}",
                    *names.shorten([graph.file for graph in graphs]),
                    f"{'unpack the archive and ' if is_packed else ''}select the graph with --symbol FILE",
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
        parameters = {*naming_styles.parameters(variables)}
        if parameters <= self.shapes.keys() and len(parameters) >= OVERLAP * len(self.shapes):
            return _Fit(in_another_style=False)
        if self.naming is None:
            return None
        naming = self.naming
        fits = (self._fit_in_another_style(graph, naming, model) for model in self.models())
        return next((fit for fit in fits if fit is not None), None)

    def _fit_in_another_style(self, graph: Graph, naming: NamingStyle, model: Model) -> _Fit | None:
        """Return how a graph fits that names a model's layers in another style, None if it does not."""
        style = self._style(graph, naming)
        if style is None:
            return None
        if min(style.overlap(model.mapping), naming.overlap(model.mapping)) < OVERLAP:
            return None
        try:
            file_names = naming.resolve(model.mapping)
            variables = style.resolve(model.mapping)
        except ConversionError:  # reported when the graph is matched with the model
            return _Fit(in_another_style=True)
        if variables.keys() != file_names.keys():
            return _Fit(in_another_style=True)
        shapes = {name: self.arrays[file_names[tensor]].shape for tensor, name in variables.items()}
        tensors = {name: tensor for tensor, name in variables.items()}
        takes = _takes(graph, shapes)
        if not takes and style.prefix and style.prefix == naming.prefix:
            return None  # the graph from before the head was replaced
        return _Fit(in_another_style=True, takes=takes, tensors=tensors)

    @staticmethod
    def _style(graph: Graph, naming: NamingStyle) -> NamingStyle | None:
        """Return the naming style of a graph, None if it has none or the prefix of another network."""
        try:
            style = naming_styles.read(naming_styles.parameters(graph.variables), graph.file)
        except ConversionError:
            return None
        is_other = style.prefix and naming.prefix and style.prefix != naming.prefix
        return None if is_other else style

    def _is_mentioned(self, content: bytes) -> bool:
        """Return whether a damaged file contains the names of the first parameters."""
        examples = [name for name, _ in zip(self.shapes, range(MENTIONS), strict=False)]
        return bool(examples) and all(f'"{name}"'.encode() in content for name in examples)


def _is_same(graph: Graph, fit: _Fit, other: Graph, other_fit: _Fit) -> bool:
    """Return whether two graphs are equal, ignoring the names of nodes other than variables."""
    return graph.outputs == other.outputs and _content(graph, fit) == _content(other, other_fit)


def _content(graph: Graph, fit: _Fit) -> list[object]:
    return [
        (node.operation, node.inputs, fit.tensors.get(node.name, node.name))
        if node.operation.kind == VARIABLE
        else (node.operation, node.inputs)
        for node in graph.nodes
    ]


def _takes(graph: Graph, shapes: dict[str, Shape]) -> bool:
    """Return whether a graph's convolutions and dense layers accept weights of these shapes."""
    return all(_takes_weight(graph, node, shapes) for node in graph.nodes)


def _takes_weight(graph: Graph, node: Node, shapes: dict[str, Shape]) -> bool:
    operation = node.operation
    if operation.kind not in {operators.CONVOLUTION, operators.DENSE}:
        return True
    weight = graph.nodes[node.inputs[1][0]]
    if weight.operation.kind != VARIABLE:  # for example a cast, whose input is not checked here
        return True
    shape = shapes.get(weight.name, ())
    if operation.kind == operators.DENSE:
        return shape[:1] == (operation.settings["outputs"],)
    kernel = operation.settings["kernel"]
    sizes = kernel if isinstance(kernel, tuple) else (kernel,) * (len(shape) - 2)
    return shape[:1] == (operation.settings["filters"],) and shape[2:] == sizes
