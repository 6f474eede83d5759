"""Trace a network with ``torch.export``, write it as a ``.pt2``, and run a ``.pt2``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn
    from torch.export import ExportedProgram

    from converter.dtypes import Array

SUFFIX = ".pt2"
BATCH = "batch"  # the name of a dynamic first axis
TRACED_IMAGES = 2  # torch.export takes a first axis of 1 for a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedNetwork:
    """A network as a program of torch.

    Attributes:
        program: the program.
        dynamic: whether it takes any number of images; if not, it takes one.
    """

    program: ExportedProgram
    dynamic: bool


def trace(network: nn.Module, shape: tuple[int, ...]) -> TracedNetwork:
    """Trace a network on images of a size; for one image only, if its operations fix the number.

    Args:
        network: a network in float32, in evaluation mode.
        shape: the shape of one image, (channels, h, w).

    Raises:
        ExportError: if torch cannot trace the network.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    images = torch.zeros(TRACED_IMAGES, *shape)
    try:
        axes = ({0: torch.export.Dim(BATCH)},)
        traced = TracedNetwork(
            program=torch.export.export(network, (images,), dynamic_shapes=axes), dynamic=True
        )
    except RuntimeError:  # of torch.export: the first axis is a constant in the network
        try:
            traced = TracedNetwork(program=torch.export.export(network, (images[:1],)), dynamic=False)
        except RuntimeError as error:
            raise ExportError(
                f"torch.export cannot trace the network\n  found       {_first_line(error)}"
            ) from error
    traced.program.example_inputs = None  # would be stored in the file
    for node in traced.program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return traced


def write(traced: TracedNetwork, path: Path) -> None:
    """Write a program as a ``.pt2``.

    The name of the file is also stored in it.
    """
    import torch  # noqa: PLC0415 - as above

    torch.export.save(traced.program, path)


def run(path: Path, images: Array) -> list[Array]:
    """Return the outputs of a ``.pt2``."""
    import torch  # noqa: PLC0415 - as above

    return outputs(torch.export.load(path).module(), images)


def outputs(network: nn.Module, images: Array) -> list[Array]:
    """Return the outputs of a network with one input."""
    import torch  # noqa: PLC0415 - as above

    with torch.no_grad():
        result = network(torch.from_numpy(images))
    results: Sequence[torch.Tensor] = result if isinstance(result, tuple | list) else (result,)
    return [each.numpy() for each in results]


def versions() -> dict[str, str]:
    """Return the version of torch."""
    import torch  # noqa: PLC0415 - as above

    return {"torch": str(torch.__version__)}


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().partition("\n")[0]
