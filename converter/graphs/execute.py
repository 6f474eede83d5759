"""Runs a graph on arrays, node by node: the reference that needs no framework."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import SymbolError
from converter.graphs import support
from converter.graphs.graph import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Entry, Graph


def run(
    graph: Graph, inputs: Mapping[str, Array], parameters: Arrays
) -> Iterator[tuple[int, tuple[Array, ...]]]:
    """Yield the index of every operator's node and its outputs; each is freed after its last use.

    Args:
        graph: the graph.
        inputs: the input variables by name; the parameters are computed in the dtype of the first.
        parameters: the other variables, each read when a node needs it.

    Raises:
        SymbolError: if an operator is not supported, or if a variable has no value.
    """
    support.require(graph)
    dtype = next(iter(inputs.values())).dtype if inputs else np.dtype(np.float32)
    uses = Counter(entry for node in graph.nodes for entry in node.inputs) + Counter(graph.outputs)
    values: dict[Entry, Array] = {}
    for index, node in enumerate(graph.nodes):
        if node.operation.kind == VARIABLE:
            if node.name in inputs:
                values[index, 0] = np.asarray(inputs[node.name])
            elif node.name not in parameters:
                raise SymbolError(f"{graph.file}: the variable {node.name} has no value")
            continue
        compute = node.operation.compute
        if compute is None:
            raise SymbolError(f"{graph.file}: {node.operator} cannot be computed")
        arrays = [
            values[entry] if entry in values else _parameter(graph, entry, parameters, dtype)
            for entry in node.inputs
        ]
        with np.errstate(all="ignore"):  # infinities and NaNs are values like others
            result = compute(*arrays)
        outputs = result if isinstance(result, tuple) else (result,)
        for entry in node.inputs:
            uses[entry] -= 1
            if not uses[entry]:
                values.pop(entry, None)
        values.update({(index, number): array for number, array in enumerate(outputs) if uses[index, number]})
        yield index, outputs


def outputs(graph: Graph, inputs: Mapping[str, Array], parameters: Arrays) -> list[Array]:
    """Return the outputs of a graph; see ``run``."""
    wanted = set(graph.outputs)
    found: dict[Entry, Array] = {
        (index, 0): np.asarray(inputs[graph.nodes[index].name])
        for index, _ in graph.outputs
        if graph.nodes[index].name in inputs
    }
    for index, arrays in run(graph, inputs, parameters):
        found.update(
            {(index, number): array for number, array in enumerate(arrays) if (index, number) in wanted}
        )
    return [found[entry] for entry in graph.outputs]


def _parameter(graph: Graph, entry: Entry, parameters: Arrays, dtype: np.dtype[Any]) -> Array:
    return np.asarray(parameters[graph.nodes[entry[0]].name]).astype(dtype)
