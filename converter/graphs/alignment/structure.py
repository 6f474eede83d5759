"""What an alignment sees of a network: its layers with parameters, their connections and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from converter.graphs.operators.code import Shape

CONVOLUTION, TRANSPOSED, DENSE = "convolution", "transposed convolution", "dense"
BATCH_NORM, PRELU, EMBEDDING = "BatchNorm", "PReLU", "embedding"
WEIGHT, BIAS = "weight", "bias"  # roles of tensors, by PyTorch's names
MEAN, VARIANCE = "running_mean", "running_var"

Setting = int | float | bool | str | tuple[int, ...]
# Where a value comes from: layers, and inputs as ~0, ~1, …, of each part of a concatenation in its order.
Sources = tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedLayer:
    """One application of an operation with parameters.

    Attributes:
        name: its name: of the node, or of the module that has the parameters.
        kind: the operation, the same on both sides.
        tensors: the names of its parameters by role, in PyTorch's words.
        shapes: their shapes by role.
        sources: the nearest layers and inputs that it is computed from.
        settings: what else determines its output, by PyTorch's argument names.
        place: the index of the node, or the number of the call.
        owner: the module that was called, "" on the side of the graph.
        direct: the layer whose output is its input as it is, None if something is computed in between.
    """

    name: str
    kind: str
    tensors: Mapping[str, str]
    shapes: Mapping[str, Shape]
    sources: Sources
    settings: Mapping[str, Setting] = field(default_factory=dict)
    place: int
    owner: str = ""
    direct: int | None = None

    @property
    def form(self) -> str:
        """The kind, and the shape of the first parameter."""
        return f"{self.kind} {'×'.join(map(str, next(iter(self.shapes.values()), ())))}"

    def describe(self) -> str:
        """Return the name and the form."""
        return f"{self.name}  {self.form}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedStep:
    """One application of an operation without parameters whose settings are compared, such as a pool.

    Attributes:
        name: its name: of the node, or of the module that was called.
        kind: the operation, the same on both sides.
        sources: the nearest layers and inputs that it is computed from.
        settings: by PyTorch's argument names.
        owner: the module that was called, "" on the side of the graph.
    """

    name: str
    kind: str
    sources: Sources
    settings: Mapping[str, Setting]
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A network, reduced to what is aligned.

    Attributes:
        title: its name in messages.
        layers: in the order of computation.
        steps: the other operations that have settings, in the same order.
        outputs: the sources of each output.
    """

    title: str
    layers: tuple[AlignedLayer, ...]
    steps: tuple[AlignedStep, ...]
    outputs: tuple[Sources, ...]


def merge(parts: Iterable[Sources]) -> Sources:
    """Return the sources of what is computed from several values; those of a single one keep their order."""
    known = list(dict.fromkeys(part for part in parts if part))
    if len(known) == 1:
        return known[0]
    return (frozenset(every(known)),) if known else ()


def every(parts: Iterable[Sources]) -> Iterator[int]:
    """Yield the members of sources."""
    return (member for part in parts for members in part for member in members)
