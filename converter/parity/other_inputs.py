"""Compares an existing module with the generated one on other inputs than those of the proof.

The inputs of a proof may not reach the bounds of a clip, such as those of ReLU6, and are one image. Here
several images are computed at once, some with large values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError, TargetError
from converter.formats import torch_file
from converter.graphs.graph import after_discrete
from converter.parity import generated_network
from converter.parity.graph_rows import difference
from converter.parity.result import LAYER_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from converter.dtypes import Array
    from converter.parity.graph_proof import ConvertedGraph

SCALES = (32.0, 1000.0)  # of larger values: a softmax may hide a difference in the largest, above pixels' 255
DTYPE = "float64"


def require_agreement(
    converted: ConvertedGraph,
    build: Callable[[str], torch.nn.Module],
    inputs: Mapping[str, Array],
    title: str,
) -> None:
    """Check that a module agrees on large values and on several images, and with itself when called twice.

    Outputs that depend on an operator that sorts or selects are not compared: rounding changes them.

    Args:
        converted: the graph and its module.
        build: returns the existing module in a precision, as a user builds it.
        inputs: the inputs of the proof, by name.
        title: the existing module, for messages.

    Raises:
        ParityError: if they differ.
        TargetError: if the existing module does not take inputs that the graph takes.
    """
    from converter.targets import building  # noqa: PLC0415 - imports torch

    graph = converted.pruned.graph
    after = after_discrete(graph.nodes)
    compared = [index not in after for index, _ in graph.outputs]
    if not any(compared):
        return
    images = [np.asarray(inputs[name], DTYPE) for name in converted.module.inputs]
    net = generated_network.load(converted.module, converted.parameters, DTYPE)
    module = build(DTYPE)
    for batches, result in _accepted(net, images):
        expected = _parts(result, compared)
        first, second = (_parts(building.run(module, batches, title), compared) for _ in range(2))
        _require_equal(first, second, f"{title} gives other outputs when it is called again")
        headline = (
            f"{title} agrees with the graph on the inputs of the proof, "
            "but not on larger values or on several images"
        )
        _require_equal(expected, first, headline)


def _accepted(net: torch.nn.Module, images: list[Array]) -> Iterator[tuple[list[torch.Tensor], object]]:
    """Yield inputs that a network takes, and its outputs: all images at once, or else each alone."""
    from converter.targets import building  # noqa: PLC0415 - imports torch

    larger = [[scale * np.flip(each, -1) if each.ndim else each for each in images] for scale in SCALES]
    single = [images, *larger]
    together = [np.concatenate(each) if each[0].ndim else each[0] for each in zip(*single, strict=True)]
    for batches in (together, *single):
        tensors = [torch_file.tensor(each) for each in batches]
        try:
            result = building.run(net, tensors, "the generated module")
        except TargetError:  # a graph for one image, or for indices, of which none are so large
            continue
        yield tensors, result
        if batches is together:
            return


def _parts(result: object, compared: Sequence[bool]) -> list[Array]:
    """Return the compared outputs, one image at a time in each."""
    flat = _flat(result)
    chosen = [output for output, wanted in zip(flat, compared, strict=False) if wanted]
    return [
        part
        for output in chosen
        for part in (np.split(output.numpy(), len(output)) if output.dim() else [output.numpy()])
    ]


def _flat(result: object) -> list[torch.Tensor]:
    """Return the tensors in what a network returns."""
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, tuple | list):
        return [tensor for each in result for tensor in _flat(each)]
    return [result]  # type: ignore[list-item] # the proof has checked that they are tensors


def _require_equal(expected: Sequence[Array], found: Sequence[Array], headline: str) -> None:
    """Check that outputs are equal but for rounding.

    Raises:
        ParityError: if they are not.
    """
    if len(expected) != len(found) or any(
        one.shape != other.shape for one, other in zip(expected, found, strict=True)
    ):
        raise ParityError(f"{headline}: their shapes differ")
    worst = max(difference(one, other).relative for one, other in zip(expected, found, strict=True))
    if not worst <= LAYER_LIMITS[DTYPE]:
        raise ParityError(
            f"{headline}\n  expected  a relative error of at most {LAYER_LIMITS[DTYPE]:.0e}\n"
            f"  found     {worst:.1e}\n"
            "  try       to compare the activations: a ReLU6 in place of a ReLU differs for large values only"
        )
