"""Match a ``.params`` file with a recorded network: its names in any style, and another number of classes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import MappingError, UsageError
from converter.graphs import operators
from converter.networks import instance_names, naming_styles, recorded_graphs, synthetic
from converter.sources import gluoncv_zoo, params_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph, Node
    from converter.networks.recorded_graphs import Parameter, RecordedNetwork
    from converter.networks.recorded_index import Shape
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile

CLASS_COUNTS = {operators.DENSE: "num_hidden", operators.CONVOLUTION: "num_filter"}  # MXNet's attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedNetwork:
    """A recorded network with the number of classes of a file, and the file's names.

    Attributes:
        network: the network.
        variables: the variable of the graph for each name in the file.
    """

    network: RecordedNetwork
    variables: dict[str, str]

    @property
    def has_other_classes(self) -> bool:
        """Whether the number of classes is another than that of GluonCV's network."""
        return self.network.classes != self.network.entry.classes


def take(
    network: RecordedNetwork, params: Path | None, seed: int | None, folder: Path, progress: Progress
) -> ParamsFile:
    """Return the parameters of a network: a file, random ones, or those that GluonCV published.

    Args:
        network: the network.
        params: the file, None for another source.
        seed: the seed of random parameters, None for another source.
        folder: where temporary files are written.
        progress: called as bytes are read.

    Raises:
        UsageError: if a file and random parameters are requested, or if random ones would be meaningless.
        SourceError: if the published ones are not available.
    """
    if params is not None and seed is not None:
        raise UsageError("`params` and `random` cannot be used together", "params", "random")
    if params is not None:
        return params_file.from_file(params, folder, progress)
    if seed is None:
        return gluoncv_zoo.take(network.published, folder, progress)
    path = folder / f"{network.name}.random-{seed}.params"
    return params_file.from_arrays(random_arrays(network, seed), path, progress)


def random_arrays(network: RecordedNetwork, seed: int) -> dict[str, Array]:
    """Return random parameters in float32, by structural name, in the order of ``save_parameters``.

    Raises:
        UsageError: if the network has parameters that are no weights, such as the anchors of a detector.
    """
    arrays = random_weights(network, seed)
    if constants := [each.name for each in network.parameters if each.name not in arrays]:
        raise UsageError(
            f"{network.name}: `random` cannot replace {names.collapse(constants)[0]}, which is not a weight; "
            "use `params`",
            "random",
        )
    return arrays


def random_weights(network: RecordedNetwork, seed: int) -> dict[str, Array]:
    """Return random weights in float32, by structural name, without the parameters that are no weights."""
    graph = network.graph
    roles = {name: role for node in graph.nodes for role, name in _own(graph, node).items()}
    head = _head(network, graph)
    weights = {each.variable: each.shape for each in network.parameters if each.variable in roles}
    arrays = synthetic.random_arrays(
        {name: (roles[name], shape) for name, shape in weights.items()},
        _own(graph, head)["weight"] if head else None,
        seed,
    )
    return {each.name: arrays[each.variable] for each in network.parameters if each.variable in arrays}


def match(network: RecordedNetwork, arrays: Arrays, file: str) -> MatchedNetwork:
    """Match a file's arrays with a network.

    Args:
        network: the network.
        arrays: the arrays by their names in the file.
        file: the file, for messages.

    Raises:
        MappingError: if names are missing or unexpected, if shapes differ by more than the number of classes,
            or if parameters that the network shares differ.
    """
    parameters = _parameters(network, arrays, file)
    variables: dict[str, str] = {}
    by_variable: dict[str, str] = {}
    for name, parameter in parameters.items():
        first = by_variable.setdefault(parameter.variable, name)
        if first == name:
            variables[name] = parameter.variable
        elif not np.array_equal(np.asarray(arrays[first]), np.asarray(arrays[name])):
            raise MappingError(
                f"{file}: {first} and {name} differ, but {network.name} has one parameter for both"
            )
    shapes = {variables[name]: tuple(arrays[name].shape) for name in variables}
    adapted = with_classes(network, shapes)
    expected = {each.name: each.shape for each in adapted.parameters}
    shapes_by_name = {
        name: (expected[each.name], tuple(arrays[name].shape)) for name, each in parameters.items()
    }
    _require_shapes(shapes_by_name, network.name, file)
    return MatchedNetwork(network=adapted, variables=variables)


def with_classes(network: RecordedNetwork, shapes: dict[str, Shape]) -> RecordedNetwork:
    """Return a classifier with the number of classes that its parameters show; another network as it is.

    Args:
        network: the network.
        shapes: the shapes of its parameters, by variable.
    """
    graph = network.graph
    head = _head(network, graph)
    if head is None:
        return network
    own = _own(graph, head)
    shape = shapes.get(own["weight"])
    if not shape or (classes := shape[0]) == network.classes:
        return network
    document = copy.deepcopy(network.document)
    document["nodes"][head.number]["attrs"][CLASS_COUNTS[head.operation.kind]] = str(classes)
    parameters = tuple(
        replace(each, shape=(classes, *each.shape[1:])) if each.variable in own.values() else each
        for each in network.parameters
    )
    return replace(
        network,
        document=document,
        graph=recorded_graphs.parse(network.name, document),
        parameters=parameters,
        classes=classes,
    )


def _own(graph: Graph, node: Node) -> dict[str, str]:
    """Return the variables of a node's parameters, by role."""
    roles = node.operation.roles
    entries = node.inputs[len(node.inputs) - len(roles) :]
    return {role: graph.nodes[index].name for role, (index, _) in zip(roles, entries, strict=True)}


def _head(network: RecordedNetwork, graph: Graph) -> Node | None:
    """Return the layer that computes the classes of a classifier, None of another network."""
    if len(graph.outputs) != 1 or network.classes is None:
        return None
    node = graph.nodes[graph.outputs[0][0]]
    while node.operation.kind not in CLASS_COUNTS and node.inputs:
        node = graph.nodes[node.inputs[0][0]]
    return node if node.operation.kind in CLASS_COUNTS else None


def _parameters(network: RecordedNetwork, arrays: Collection[str], file: str) -> dict[str, Parameter]:
    """Return the parameter of each name in a file.

    Raises:
        MappingError: if names are missing or unexpected.
    """
    stored = {_usual(name): file_name for name, file_name in naming_styles.plain(arrays).items()}
    by_variable = {_usual(each.variable): each for each in reversed(network.parameters)}
    in_graph = set(network.graph.variables)
    if any("." in name for name in stored):
        by_name = {_usual(each.name): each for each in network.parameters}
        present = {by_name[name].variable for name in stored if name in by_name}
        absent = {each.name for each in by_variable.values() if each.variable in in_graph - present}
        _require_names(absent, by_name, stored, f"{file}: the names are not those of {network.name}")
        return {file_name: by_name[name] for name, file_name in stored.items()}
    variables = [*reversed(by_variable)]
    if len(stored) < len(variables):  # an export contains what the graph needs
        variables = [name for name in variables if by_variable[name].variable in in_graph]
    matched = instance_names.match(variables, [*stored], file)
    return {stored[name]: by_variable[variable] for name, variable in matched.items()}


def _usual(name: str) -> str:
    """Return a name with Gluon's spelling of the running statistics; MXNet's symbols say ``moving``."""
    return naming_styles.MOVING.sub("running_", name)


def _require_names(absent: set[str], known: Collection[str], found: Collection[str], headline: str) -> None:
    missing = [*(f"missing     {name}" for name in names.collapse(sorted(absent)))]
    unexpected = [*(f"unexpected  {name}" for name in names.collapse(sorted({*found} - {*known})))]
    if missing or unexpected:
        raise MappingError("\n  ".join([headline, *names.shorten([*missing, *unexpected])]))


def _require_shapes(shapes: dict[str, tuple[Shape, Shape]], network: str, file: str) -> None:
    """Check the expected and the found shape of each array.

    Raises:
        MappingError: with all that differ.
    """
    problems = [
        f"{name}: expected {expected}, found {found}"
        for name, (expected, found) in shapes.items()
        if found != expected
    ]
    if problems:
        headline = f"{file}: {len(problems)} shapes are not those of {network}"
        step = "convert the graph that was exported with them: convert GRAPH.json OUT --params FILE"
        raise MappingError("\n  ".join([headline, *names.shorten(problems), step]))
