"""Compares one run of a target with the graph that it is aligned with: every layer and output."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError
from converter.parity.graph_comparisons import GraphComparisons, inputs_first
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from converter.dtypes import Array
    from converter.graphs.alignment.alignment import Alignment
    from converter.parity.graph_proof import ConvertedGraph
    from converter.parity.graph_rows import GraphRow
    from converter.targets.recording import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedSide:
    """A target, compared with its graph.

    Attributes:
        converted: the graph and its parameters.
        alignment: the layers of both.
        network: returns the target with its weights, in a precision.
    """

    converted: ConvertedGraph
    alignment: Alignment
    network: Callable[[str], nn.Module]

    @contextlib.contextmanager
    def begin(self, run: int, dtype: str, inputs: Mapping[str, Array]) -> Iterator[AlignedComparison]:
        """Run the target, and yield the comparison of what it computed.

        Raises:
            TargetError: if the target does not take the inputs.
            ParityError: if its outputs are not finite.
            StorageError: if the outputs of its layers cannot be written to temporary files.
        """
        with disk.temp_dir() as folder:
            values = [inputs[name] for name in self.converted.module.inputs]
            heads, layers = _run(self.network(dtype), values, self.alignment.module.title, folder)
            if len(layers) != len(self.alignment.module.layers):
                raise ParityError(
                    f"{self.alignment.module.title} computes {len(layers)} layers in this run, and "
                    f"{len(self.alignment.module.layers)} in the one that was aligned"
                )
            yield AlignedComparison(
                converted=self.converted,
                run=run,
                dtype=dtype,
                inputs=inputs,
                alignment=self.alignment,
                layers=layers,
                outputs=heads,
            )


@dataclass(slots=True, kw_only=True)
class AlignedComparison(GraphComparisons):
    """The comparison of one run of a target.

    Attributes:
        alignment: the layers of both sides.
        layers: the file with the output of each layer of the target.
        outputs: the target's outputs.
    """

    alignment: Alignment
    layers: Sequence[Path]
    outputs: Sequence[Array]

    def row(self, index: int, expected: Array, output: Array, layer: str = "") -> GraphRow:
        """Compare an output; one after a discrete operator decides, too, because nodes are not compared."""
        return replace(GraphComparisons.row(self, index, expected, output, layer), decisive=True)

    def rows(self, outputs: Iterator[tuple[int, tuple[Array, ...]]]) -> list[GraphRow]:
        """Compare the outputs of the reference as they come; those without their bias are not comparable."""
        graph, module = self.alignment.graph, self.alignment.module
        folded = self.alignment.plan.folded
        layers = {
            graph.layers[one].place: (graph.layers[one].kind, module.layers[other])
            for one, other in self.alignment.pairs.items()
            if one not in folded
        }
        by_index: dict[int, GraphRow] = {}
        heads: dict[int, GraphRow] = {}
        seen = set()
        for index, arrays in inputs_first(self.graph, outputs):
            seen.add(index)
            if index in layers:
                kind, layer = layers[index]
                output = np.load(self.layers[layer.place], mmap_mode="r")
                if kind != layer.kind and output.size == arrays[0].size:  # a dense layer and a convolution
                    output = output.reshape(arrays[0].shape)
                row = self.row(index, arrays[0], output, layer.name)
                by_index[index] = replace(row, vacuous=self.is_vacuous(index, arrays[0], row))
            for place, (node, number) in enumerate(self.graph.outputs):
                if node == index:
                    self.heads[place] = arrays[number]
                    heads[place] = self.row(index, arrays[number], self.outputs[place])
        self.require_complete(seen)
        heads |= self.variables(self.outputs)
        return [
            *(by_index[index] for index in sorted(by_index)),
            *(heads[place] for place in sorted(heads)),
        ]


def _run(net: nn.Module, inputs: Sequence[Array], title: str, folder: Path) -> tuple[list[Array], list[Path]]:
    """Return the outputs of a network, and the files of those of its layers."""
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.targets import building  # noqa: PLC0415 - imports torch
    from converter.targets.recording import LayerCalls, Recorder, outputs_of  # noqa: PLC0415 - imports torch

    calls, files = LayerCalls(net), []

    def keep(call: Call) -> None:
        number = calls.number(call)
        if number is not None:
            files.append(folder / f"{number}.npy")
            with disk.writing(folder):
                np.save(files[-1], call.outputs[0].detach().numpy())

    with Recorder(keep).running(net):
        result = building.run(net, [torch.from_numpy(np.asarray(each)) for each in inputs], title)
    heads = [each.detach().numpy() for each in outputs_of(result)]
    if not all(np.isfinite(head).all() for head in heads):
        raise ParityError("the outputs are not finite, which proves nothing")
    return heads, files
