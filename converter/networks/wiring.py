"""Match an MXNet graph with a model: the same operations, connections and hyper-parameters."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter import names
from converter.errors import ConversionError, SymbolError
from converter.graphs import reader, rewriting
from converter.networks import exported_preprocessing, expressions, graph_source, naming_styles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.graphs.graph import Graph, Operation, Settings, Value
    from converter.networks.catalog import Model
    from converter.networks.exported_preprocessing import ExportedPreprocessing
    from converter.networks.expressions import GraphExpressions, ModelExpressions
    from converter.networks.naming_styles import NamingStyle

RELATIVE_TOLERANCE = 1e-9  # of a setting: MXNet prints doubles with fewer digits than they have


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """A graph whose nodes are assigned to the layers of a model.

    Attributes:
        graph: the graph.
        body: the graph without casts between floating types and without an exported preprocessing.
        data: the name of its input variable.
        nodes: the index of each layer's node in ``body``, by structural layer name.
        settings: the hyper-parameters of each layer, by structural layer name.
        variables: the graph's variables by structural tensor name.
        fixed_gammas: the structural names of the gammas that MXNet replaces with 1.
        softmax: whether the graph ends in a softmax, which the converted network does not have.
        casts: whether the graph has casts between floating types.
        constants: the variables of an exported preprocessing, empty if there is none.
    """

    graph: Graph
    body: Graph
    data: str
    nodes: dict[str, int]
    settings: dict[str, Settings]
    variables: dict[str, str]
    fixed_gammas: tuple[str, ...]
    softmax: bool
    casts: bool = False
    constants: tuple[str, ...] = ()


def match(graph: Graph, model: Model, naming: NamingStyle | None = None) -> Wiring:
    """Match a graph with a model; with a model without a head, up to the last feature map.

    Args:
        graph: the graph.
        model: the model.
        naming: the names of the parameters' file; by default the graph's own names are resolved.

    Raises:
        SymbolError: with the first operation that differs, and with every hyper-parameter that differs.
    """
    headline, hint = f"{graph.file}: the graph does not match {model.name}", _hint(graph, naming)
    casts, preprocessing, body = _without_bypassed(graph)
    try:
        variables = _variables(body, model, naming)
    except ConversionError as error:
        raise SymbolError(f"{headline}\n  {error}\n  {hint}") from error
    table = expressions.ExpressionTable()
    expected = expressions.of_model(model, table)
    zeros = (
        model.mapping.to_target().keys() - naming.structural.keys() if naming and naming.structural else ()
    )
    tensors = {name: tensor for tensor, name in variables.items()}
    actual = expressions.of_graph(body, tensors, table, zeros)
    if not model.config.num_classes:
        expected = _up_to_features(expected, actual)
    differences = [
        *_different_wiring(body, expected, actual),
        *_different_settings(body, expected, actual),
    ]
    if differences:
        raise SymbolError("\n  ".join([headline, *names.shorten(differences), hint]))
    nodes = {layer: actual.nodes[number][0] for layer, number in expected.layers.items()}
    return Wiring(
        graph=graph,
        body=body,
        data=actual.data,
        nodes=nodes,
        settings={layer: body.nodes[index].operation.settings for layer, index in nodes.items()},
        variables=variables,
        fixed_gammas=tuple(
            f"{layer}.gamma" for layer, index in nodes.items() if body.nodes[index].operation.fix_gamma
        ),
        softmax=actual.softmax,
        casts=casts,
        constants=preprocessing.constants if preprocessing else (),
    )


def _hint(graph: Graph, naming: NamingStyle | None) -> str:
    """Return the command that converts the graph as it is."""
    command = graph_source.command(graph, naming.file if naming else None)
    return f"try         {command}, which converts the graph as it is; or --symbol, if this is another's"


def _up_to_features(expected: ModelExpressions, actual: GraphExpressions) -> ModelExpressions:
    """Return the expressions of a network without a head that is part of a graph.

    The pool after the last feature map is left out if the graph has none there.
    """
    *layers, pool = expected.layers
    kept = [*layers, pool] if expected.layers[pool] in actual.nodes else layers
    numbers = {number for layer, number in expected.layers.items() if layer not in kept}
    return replace(
        expected,
        operations={number: each for number, each in expected.operations.items() if number not in numbers},
        layers={layer: expected.layers[layer] for layer in kept},
        is_part=True,
    )


def _without_bypassed(graph: Graph) -> tuple[bool, ExportedPreprocessing | None, Graph]:
    """Return whether a graph has casts, its preprocessing, and the graph without both."""
    casts, preprocessing = rewriting.casts(graph), exported_preprocessing.find(graph)
    bypasses = casts | ({preprocessing.output: preprocessing.images} if preprocessing else {})
    if not bypasses:
        return False, None, graph
    return bool(casts), preprocessing, _bypass(graph.content, graph.file, graph.name, graph.path)


@functools.lru_cache(maxsize=2)  # a graph is matched with many models
def _bypass(content: bytes, file: str, name: str, path: Path | None) -> Graph:
    """Return the graph of a file without its casts and its preprocessing."""
    graph = reader.parse(content, file=file, name=name, path=path)
    preprocessing = exported_preprocessing.find(graph)
    images = {preprocessing.output: preprocessing.images} if preprocessing else {}
    return rewriting.bypass(graph, rewriting.casts(graph) | images)


def match_any_stride(graph: Graph, model: Model, naming: NamingStyle | None = None) -> tuple[Model, Wiring]:
    """Match a graph with a model of any output stride; return the model with that of the graph.

    Args:
        graph: the graph.
        model: the model; its own output stride takes precedence.
        naming: as in ``match``.

    Raises:
        SymbolError: if none matches, from the output stride with the fewest differences.
    """
    errors = []
    own = model.config.output_stride
    for stride in sorted(model.config.output_strides, key=lambda stride: (stride != own, -stride)):
        candidate = model.with_config(output_stride=stride)
        try:
            return candidate, match(graph, candidate, naming)
        except SymbolError as error:
            errors.append(error)
    raise min(errors, key=lambda error: str(error).count("\n"))


def _variables(graph: Graph, model: Model, naming: NamingStyle | None) -> dict[str, str]:
    """Return the graph's variables by structural tensor name: the file's names if the graph has them.

    Raises:
        ConversionError: if the graph's names cannot be resolved.
    """
    if naming is not None and naming.structural:
        plain = {name: each for each, name in naming_styles.plain(naming.structural.values()).items()}
        variables = {tensor: plain[name] for tensor, name in naming.structural.items()}
        if {*variables.values()} <= {*graph.variables}:
            return variables
    return naming_styles.read(graph.parameters, graph.file).resolve(model.mapping)


def _different_wiring(graph: Graph, expected: ModelExpressions, actual: GraphExpressions) -> Iterator[str]:
    """Yield the model's first operation that is missing in the graph, and its counterparts there."""
    table, layers = expected.table, {number: layer for layer, number in expected.layers.items()}
    missing = next((number for number in expected.operations if number not in actual.nodes), None)
    if missing is None:
        if actual.output != expected.output and not expected.is_part:
            yield f"expected  the graph to end in {layers[expected.output]}"
            yield f"found     {table.describe(actual.output, layers)}"
        return
    label = f"{layers[missing]}: " if missing in layers and not table[missing].params else ""
    yield f"expected  {label}{table.describe(missing, layers)}"
    others = [number for number in actual.nodes if number not in expected.operations]
    alike = [number for number in others if {*table[number].params} & {*table[missing].params}]
    readers = [number for number in others if {*table[number].inputs} & {*table[missing].inputs}]
    for number in alike or readers or others[:1]:
        for index in actual.nodes[number]:
            yield f"found     {graph.nodes[index].name}: {table.describe(number, layers)}"


def _different_settings(graph: Graph, expected: ModelExpressions, actual: GraphExpressions) -> Iterator[str]:
    """Yield every hyper-parameter that differs, with the layers concerned."""
    layers = {number: layer for layer, number in expected.layers.items()}
    places: dict[str, list[str]] = {}
    for number, operation in expected.operations.items():
        for index in actual.nodes.get(number, ()):
            place = layers.get(number) or expected.table.describe(number, layers)
            for text in _differences(graph.nodes[index].operation, operation):
                places.setdefault(text, []).append(place)
        if len({graph.nodes[index].operation.fix_gamma for index in actual.nodes.get(number, ())}) > 1:
            places.setdefault("computed twice, with and without fix_gamma", []).append(layers[number])
    for text, differing in places.items():
        for pattern in names.collapse(differing):
            yield f"{pattern}: {text}"


def _differences(actual: Operation, expected: Operation) -> Iterator[str]:
    for name, value in expected.settings.items():
        if name in actual.settings and not _same(actual.settings[name], value):
            yield f"{name} {_text(actual.settings[name])} in the graph, {_text(value)} in the model"


def _same(actual: Value, expected: Value) -> bool:
    if isinstance(expected, float) and isinstance(actual, float):
        return abs(actual - expected) <= RELATIVE_TOLERANCE * abs(expected)
    return actual == expected


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
