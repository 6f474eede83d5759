"""Computes the nodes of a graph one at a time, with the expressions of its generated module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import names
from converter.errors import ParityError
from converter.graphs.graph import VARIABLE
from converter.parity.generated_network import REFUSALS, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Entry, Graph


@dataclass(slots=True, kw_only=True)
class NodeExecution:
    """Computes the nodes of a graph one at a time.

    Attributes:
        graph: the graph.
        module: the module generated from it.
        net: the network of that module.
        inputs: the values of the input variables.
        values: the outputs that later nodes need; each is freed after its last use.
    """

    graph: Graph
    module: GeneratedModule
    net: torch.nn.Module
    inputs: Mapping[str, Array]
    values: dict[Entry, torch.Tensor] = field(default_factory=dict)
    _uses: Counter[Entry] = field(init=False)
    _names: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Count the uses of outputs."""
        self._uses = Counter(entry for node in self.graph.nodes for entry in node.inputs)
        self._names = namespace(self.module.source)

    def compute(self, index: int) -> list[Array]:
        """Return the outputs of a node for the stored outputs of the nodes before it.

        Raises:
            ParityError: if PyTorch refuses the inputs, or returns another number of outputs than the graph.
        """
        import torch  # noqa: PLC0415 - when a network runs and not before

        node = self.graph.nodes[index]
        if index not in self.module.expressions:
            return [self._value(node.inputs[0]).numpy()]
        expression = self.module.expressions[index]
        used = {name for _, name, _, _ in Formatter().parse(expression)}  # others would be read from the file
        operands = {
            f"x{place}": self._value(entry) for place, entry in enumerate(node.inputs) if str(place) in used
        }
        scope = {**self._names, **operands, "layer": self._layer(index), "self": self.net}
        text = expression.format(*(f"x{place}" for place in range(len(node.inputs))), layer="layer")
        try:
            with torch.no_grad():
                result = eval(text, scope)  # noqa: S307 - an expression of ours
        except REFUSALS as error:
            raise self._error(index, str(error).partition("\n")[0]) from error
        outputs = result if node.operation.outputs > 1 else [result]
        if len(outputs) != node.operation.outputs:
            raise self._error(index, f"{len(outputs)} outputs in place of {node.operation.outputs}")
        return [each.numpy() for each in outputs]

    def _error(self, index: int, found: str) -> ParityError:
        name = names.printable(names.clipped(self.graph.nodes[index].name))
        shapes = " and ".join(
            str(tuple(self._value(entry).shape)) for entry in self.graph.nodes[index].inputs
        )
        return ParityError(
            f"{name} cannot be computed on its own, from inputs of shape {shapes or '()'}\n  found  {found}"
        )

    def _layer(self, index: int) -> torch.nn.Module | torch.Tensor | None:
        """Return the layer or the constant that computes a node."""
        if index in self.module.constants:
            return self.net.get_buffer(self.module.constants[index])
        layer = self.module.layers.get(index)
        return self.net.get_submodule(layer) if layer else None

    def store(self, index: int, outputs: list[Array] | tuple[Array, ...]) -> None:
        """Store the outputs of a node for later ones, and free those that it was the last to use."""
        import torch  # noqa: PLC0415 - as above

        for entry in self.graph.nodes[index].inputs:
            self._uses[entry] -= 1
            if not self._uses[entry]:
                self.values.pop(entry, None)
        for number, output in enumerate(outputs):
            if self._uses[index, number]:
                self.values[index, number] = torch.from_numpy(np.asarray(output))

    def run(self) -> Iterator[tuple[int, list[Array]]]:
        """Compute all nodes from the inputs; yield the index and the outputs of each."""
        for index, node in enumerate(self.graph.nodes):
            if node.operation.kind != VARIABLE:
                outputs = self.compute(index)
                self.store(index, outputs)
                yield index, outputs

    def _value(self, entry: Entry) -> torch.Tensor:
        import torch  # noqa: PLC0415 - as above

        from converter.parity import layer_weights  # noqa: PLC0415 - imports torch

        if entry in self.values:
            return self.values[entry]
        name = self.graph.nodes[entry[0]].name
        if name in self.module.tensors:
            return layer_weights.tensor(self.net, self.module.tensors[name])
        return torch.from_numpy(np.asarray(self.inputs[name]))
