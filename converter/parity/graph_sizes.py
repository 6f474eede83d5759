"""Finds the size of images that a generated module takes, if it takes one size only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converter.errors import UsageError
from converter.graphs.operators.attributes import MAX_ELEMENTS
from converter.parity import graph_proof
from converter.parity.node_execution import REFUSALS
from converter.parity.options import DEFAULT_SIZES
from converter.parity.result import SMALLEST

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


def require_accepted(converted: ConvertedGraph, chosen: Mapping[str, Shape]) -> None:
    """Check that the module takes images of the default size, if it takes any usual size.

    Raises:
        UsageError: with a size that it takes.
    """
    inputs = converted.module.inputs
    net = graph_proof.load(converted.module, converted.parameters, "float32")
    if _accepts(net, [chosen[name] for name in inputs]):
        return
    for size in USUAL_SIZES:
        resized = {
            name: (*shape[:FLAT], *size) if len(shape) == IMAGE else shape for name, shape in chosen.items()
        }
        if not _accepts(net, [resized[name] for name in inputs]):
            continue
        if min(size) >= SMALLEST:
            option = f"--size {size[0]}x{size[1]}"
        else:
            shapes = {name: "x".join(map(str, shape)) for name, shape in resized.items()}
            option = " ".join(f"--input {name}={text}" for name, text in shapes.items())
        default = "x".join(map(str, DEFAULT_SIZES[0]))
        raise UsageError(
            f"{converted.pruned.graph.file}: takes images of {size[0]}x{size[1]}, not of {default}, "
            f"the default of the proof\n  try  {option}",
            "sizes",
        )


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
