"""Finds the size of images that a generated module takes, if it takes one size only."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from converter.graphs.operators.attributes import MAX_ELEMENTS
from converter.parity import generated_network
from converter.parity.generated_network import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from converter.graphs.operators.code import Shape
    from converter.parity.graph_proof import ConvertedGraph

FLAT, IMAGE = 2, 4  # numbers of axes
SQUARES = (
    *(224, 112, 299, 32, 28, 64, 96, 128, 48, 24, 12, 40, 56, 80, 160, 192, 227, 231, 256, 300, 320, 331),
    *(384, 416, 448, 480, 512, 513, 608, 640),
)
OTHERS = ((112, 96), (256, 128), (128, 64), (256, 192), (384, 288), (160, 80), (32, 100), (48, 160))
USUAL_SIZES = (*((side, side) for side in SQUARES), *OTHERS)  # of recognition first, of detectors last


def with_accepted_size(converted: ConvertedGraph, chosen: Mapping[str, Shape]) -> Mapping[str, Shape]:
    """Return shapes of inputs that the module takes: those chosen, else with images of a usual size.

    Without a size that it takes, the chosen ones are returned, and the proof says why they do not fit.
    """
    inputs = converted.module.inputs
    net = generated_network.load(converted.module, converted.parameters, "float32")
    resized = (_resized(chosen, size) for size in USUAL_SIZES)
    for shapes in itertools.chain([chosen], resized):
        if _accepts(net, [shapes[name] for name in inputs]):
            return shapes
    return chosen


def _resized(shapes: Mapping[str, Shape], size: tuple[int, int]) -> dict[str, Shape]:
    return {name: (*shape[:FLAT], *size) if len(shape) == IMAGE else shape for name, shape in shapes.items()}


def _accepts(net: torch.nn.Module, shapes: list[Shape]) -> bool:
    """Return whether a network takes inputs of these shapes."""
    import torch  # noqa: PLC0415 - when a network runs and not before

    if any(math.prod(shape) > MAX_ELEMENTS for shape in shapes):
        return False
    try:
        with torch.no_grad():
            net(*map(torch.zeros, shapes))
    except REFUSALS:
        return False
    return True
