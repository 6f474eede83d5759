"""Compares an existing module with the generated one on other inputs than those of the proof.

The inputs of a proof may not reach the bounds of a clip, such as those of ReLU6, and are one image. Here two
images are computed at once, of which the second has large values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParityError
from converter.graphs.graph import after_discrete
from converter.parity import generated_network
from converter.parity.generated_network import REFUSALS
from converter.parity.graph_rows import difference
from converter.parity.result import LAYER_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from converter.dtypes import Array
    from converter.parity.graph_proof import ConvertedGraph

SCALE = 32.0
DTYPE = "float64"
IMAGE_AXES = (4, 5)  # of images and of videos


def require_agreement(
    converted: ConvertedGraph,
    build: Callable[[str], torch.nn.Module],
    inputs: Mapping[str, Array],
    title: str,
) -> None:
    """Check that a module agrees on large values and on two images, and with itself when called twice.

    Graphs with other inputs than images, or with operators that select, are not checked.

    Args:
        converted: the graph and its module.
        build: returns the existing module in a precision.
        inputs: the inputs of the proof, by name.
        title: the existing module, for messages.

    Raises:
        ParityError: if they differ.
    """
    images = [np.asarray(inputs[name], DTYPE) for name in converted.module.inputs]
    if after_discrete(converted.pruned.graph.nodes) or any(each.ndim not in IMAGE_AXES for each in images):
        return
    batches, expected = _expected(converted, images)
    module = build(DTYPE)
    found = _outputs(module, batches)
    _require_equal(found, _outputs(module, batches), f"{title} gives other outputs when it is called again")
    headline = (
        f"{title} agrees with the graph on the inputs of the proof, but not on larger values or on two images"
    )
    _require_equal(expected, found, headline)


def _expected(converted: ConvertedGraph, images: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Return inputs, and the outputs of the generated module, which is then released."""
    net = generated_network.load(converted.module, converted.parameters, DTYPE)
    batches = [np.concatenate([each, SCALE * np.flip(each, -1)]) for each in images]
    try:
        return batches, _outputs(net, batches)
    except REFUSALS:  # a graph for one image
        batches = [batch[1:] for batch in batches]
        return batches, _outputs(net, batches)


def _outputs(net: torch.nn.Module, batches: Sequence[Array]) -> list[Array]:
    """Return the outputs of a network, one image at a time in each."""
    import torch  # noqa: PLC0415 - when a network runs and not before

    with torch.no_grad():
        result = net(*map(torch.from_numpy, batches))
    flat = _flat(result)
    return [part for output in flat for part in np.split(output.numpy(), len(output))]


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
