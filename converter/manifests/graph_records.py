"""The parts of a manifest that only a module generated from a graph has."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from converter.manifests.hashes import Sha256  # noqa: TC001 - evaluated


class GraphRecord(Struct, frozen=True, kw_only=True):
    """What was converted of a graph, and what was left out.

    Attributes:
        inputs: names of the inputs, in the order of ``forward``.
        outputs: names of the nodes that compute the outputs.
        output: the node that was requested as the end of the network, null for the outputs in the file.
        labels: names of the labels, which are no longer inputs.
        dropped: names of outputs for training only.
        unused: names of the parameters that no output needs.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    output: str | None = None
    labels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


class ReplacedRecord(Struct, frozen=True, kw_only=True):
    """Operators in whose place MXNet ran others, because it does not compute them in float64.

    Attributes:
        operators: their names.
        relative: the largest relative difference that this makes in float32.
    """

    operators: tuple[str, ...]
    relative: float


class NodesRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The comparison of every node on its own, for the reference's inputs of the node.

    Attributes:
        compared: number of nodes.
        node: the node with the largest relative difference.
        relative: that difference.
        limit: the largest that passes.
        single: names of the nodes that MXNet computes in float32 only, for which it is 1e-6.
        undecided: number of layers and outputs that differ end to end, after operators that sort or select:
            of these only the nodes are proven.
    """

    compared: int
    node: str
    relative: float
    limit: float
    single: tuple[str, ...] = ()
    undecided: int = 0


class ModuleRecord(Struct, frozen=True, kw_only=True):
    """The Python module that was written next to the weights.

    Attributes:
        file: its name.
        sha256: its SHA-256.
    """

    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]+\.py\Z")]
    sha256: Sha256


class TensorRecord(Struct, frozen=True, kw_only=True):
    """The names of a tensor.

    Attributes:
        source: its name in the ``.params`` file.
        target: its name in the state dict.
    """

    source: str
    target: str
