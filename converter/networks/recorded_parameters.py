"""Match a ``.params`` file with a recorded network: its names in any style, and another number of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import MappingError
from converter.networks import instance_names, naming_styles, recorded_heads

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.networks.recorded_graphs import Parameter, RecordedNetwork
    from converter.networks.recorded_index import Shape


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
    adapted = recorded_heads.with_classes(network, shapes)
    expected = {each.name: each.shape for each in adapted.parameters}
    shapes_by_name = {
        name: (expected[each.name], tuple(arrays[name].shape)) for name, each in parameters.items()
    }
    _require_shapes(shapes_by_name, network.name, file)
    return MatchedNetwork(network=adapted, variables=variables)


def _parameters(network: RecordedNetwork, arrays: Collection[str], file: str) -> dict[str, Parameter]:
    """Return the parameter of each name in a file.

    Raises:
        MappingError: if names are missing or unexpected.
    """
    stored = {_with_running(name): file_name for name, file_name in naming_styles.plain(arrays).items()}
    if len(stored) < len(arrays):
        raise MappingError(
            f"{file}: contains a parameter twice, with arg: and aux:, or with running_ and moving_"
        )
    by_variable = {_with_running(each.variable): each for each in reversed(network.parameters)}
    in_graph = set(network.graph.variables)
    if any("." in name for name in stored):
        by_name = {_with_running(each.name): each for each in network.parameters}
        present = {by_name[name].variable for name in stored if name in by_name}
        absent = {each.name for each in by_variable.values() if each.variable in in_graph - present}
        if lines := names.differences(sorted(absent), sorted(stored.keys() - by_name.keys())):
            headline = f"{file}: the names are not those of {network.name}"
            raise MappingError("\n  ".join([headline, *names.shorten(lines)]))
        return {file_name: by_name[name] for name, file_name in stored.items()}
    variables = [*reversed(by_variable)]
    if len(stored) < len(variables):  # an export contains what the graph needs
        variables = [name for name in variables if by_variable[name].variable in in_graph]
    matched = instance_names.match(variables, [*stored], file)
    return {stored[name]: by_variable[variable] for name, variable in matched.items()}


def _with_running(name: str) -> str:
    """Return a name with Gluon's ``running`` in place of ``moving``, as MXNet's symbols call statistics."""
    return naming_styles.MOVING.sub("running_", name)


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
