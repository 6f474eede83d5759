"""Finds the size of images that a generated module takes, if it takes one size only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import UsageError
from converter.parity.node_execution import namespace
from converter.parity.options import DEFAULT_SIZES
from converter.parity.result import SMALLEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from converter.graphs.operators.code import Shape
    from converter.parity.graph_proof import ConvertedGraph

FLAT, IMAGE = 2, 4  # numbers of axes
USUAL_SIZES = (
    *(
        224,
        112,
        299,
        32,
        28,
        64,
        96,
        128,
        256,
        300,
        320,
        416,
        512,
        608,
        331,
        160,
        192,
        384,
        448,
        480,
        513,
        640,
    ),
    *(48, 24, 12, 40, 56, 80, 227, 231, 800, 1024),
)
OTHER_SIZES = ((112, 96), (256, 128), (128, 64), (256, 192), (384, 288), (160, 80), (32, 100), (48, 160))


def require_accepted(converted: ConvertedGraph, chosen: Mapping[str, Shape]) -> None:
    """Check that the module takes images of the default size, if it takes any usual size.

    Raises:
        UsageError: with a size that it takes.
    """
    if _accepts(converted, chosen, "cpu"):
        return
    for size in [*((side, side) for side in USUAL_SIZES), *OTHER_SIZES]:
        resized = {
            name: (*shape[:FLAT], *size) if len(shape) == IMAGE else shape for name, shape in chosen.items()
        }
        if not _accepts(converted, resized, "meta"):
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


def _accepts(converted: ConvertedGraph, chosen: Mapping[str, Shape], device: str) -> bool:
    """Return whether a module takes inputs of these shapes.

    The device ``meta`` computes shapes alone, at any size; its first use takes seconds.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    with torch.device(device), torch.no_grad():
        net: torch.nn.Module = namespace(converted.module.source)["Network"]().eval()
        try:
            net(*(torch.zeros(chosen[name]) for name in converted.module.inputs))
        except NotImplementedError:  # an operator whose shape depends on values
            return True
        except (RuntimeError, IndexError, ValueError):
            return False
    return True
