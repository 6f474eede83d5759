"""What a generated module is compared with: the outputs of the nodes of its graph, as they are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from converter.graphs import execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.graphs.pruning import InferenceGraph
    from converter.references.symbol import SymbolRun

Run = tuple[str, "Mapping[str, Array]"]  # the dtype and the inputs by name


class GraphReference(Protocol):
    """What computes the expected outputs."""

    @property
    def order(self) -> Sequence[int]:
        """The numbers of the runs in the order in which they can be read."""

    def outputs(self, number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
        """Begin a run, and return the index of each operator's node and its outputs as they are computed."""


@dataclass(frozen=True, slots=True)
class MXNetOutputs:
    """MXNet's outputs by the nodes of the pruned graph."""

    child: SymbolRun
    pruned: InferenceGraph

    @property
    def order(self) -> Sequence[int]:
        """The numbers of the runs in the order in which they can be read."""
        return self.child.order

    def outputs(self, number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
        """Wait until MXNet begins a run, and return the nodes' outputs as it computes them."""
        return self._group(self.child.outputs(number))

    def _group(self, outputs: Iterator[tuple[int, int, Array]]) -> Iterator[tuple[int, tuple[Array, ...]]]:
        indices = {origin: index for index, origin in enumerate(self.pruned.origins)}
        incomplete: dict[int, dict[int, Array]] = {}
        for node, number, array in outputs:
            index = indices[node]
            count = self.pruned.graph.nodes[index].operation.outputs
            if number >= count:  # MXNet has more: the mask of a random LeakyReLU
                continue
            arrays = incomplete.setdefault(index, {})
            arrays[number] = array
            if len(arrays) == count:
                yield index, tuple(array for _, array in sorted(incomplete.pop(index).items()))


@dataclass(frozen=True, slots=True)
class ArrayOutputs:
    """The outputs of the graph on arrays."""

    graph: Graph
    parameters: Arrays
    runs: Sequence[Run]

    @property
    def order(self) -> Sequence[int]:
        """The numbers of the runs."""
        return range(len(self.runs))

    def outputs(self, number: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
        """Return the nodes' outputs in a run as they are computed."""
        _, inputs = self.runs[number]
        return execute.run(self.graph, inputs, self.parameters)
