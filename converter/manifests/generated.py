"""The manifest of a generated module: the graph, the files, the names of the tensors and the proof."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from converter.manifests.schema import ArtifactRecord, Sha1, Sha256  # noqa: TC001 - evaluated

VERSION = 1  # raised when a key changes its meaning; new keys do not raise it


class GraphSourceRecord(Struct, frozen=True, kw_only=True):
    """The graph and the ``.params`` file that the module was generated from.

    Attributes:
        graph: file name of the graph.
        graph_sha256: its SHA-256.
        file: name of the ``.params`` file, or of the archive.
        sha1: SHA-1 of the unpacked file.
        inputs: names of the inputs, in the order of ``forward``.
        outputs: names of the nodes that compute the outputs.
        casts: whether the graph has casts between floating types, which the module does not have.
        labels: names of the labels, which are no longer inputs.
        dropped: names of outputs for training only.
        unused: names of the parameters that no output needs.
        fixed_gammas: names of the gammas in whose place ones were written.
    """

    graph: str
    graph_sha256: Sha256
    file: str
    sha1: Sha1
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    casts: bool = False
    labels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    fixed_gammas: tuple[str, ...] = ()


class ModuleRecord(Struct, frozen=True, kw_only=True):
    """The Python module that was written next to the weights."""

    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]+\.py\Z")]
    sha256: Sha256


class GraphCheckRecord(Struct, frozen=True, kw_only=True):
    """The comparison for one input.

    Attributes:
        dtype: precision of the run.
        shape: shape of the input.
        layers: number of compared layers and outputs.
        node: the node with the largest relative difference.
        relative: that difference, over the standard deviation of the reference's output.
        limit: the largest that passes.
    """

    dtype: str
    shape: tuple[int, ...]
    layers: int
    node: str
    relative: float
    limit: float


class GraphParityRecord(Struct, frozen=True, kw_only=True):
    """The proof.

    Attributes:
        proven: whether every check passed.
        reference: what computed the expected outputs.
        versions: versions of the packages that computed them.
        checks: one per input and precision.
        replaced: operators of the graph that were replaced so that MXNet computes them in float64.
        rewriting: the largest relative difference that this makes in MXNet's float32.
    """

    proven: bool
    reference: Literal["gluon", "numpy", "none"]
    versions: dict[str, str] = {}
    checks: tuple[GraphCheckRecord, ...] = ()
    replaced: tuple[str, ...] = ()
    rewriting: float = 0.0


class GeneratedManifest(Struct, frozen=True, kw_only=True):
    """What the conversion of a graph read, wrote and proved.

    Attributes:
        kind: the kind of target.
        model: name of the module.
        source: the graph and its parameters.
        module: the module.
        artifact: the weights.
        tensors: names in the state dict, by the graph's variables.
        parity: the proof.
        version: version of gluon2torch.
        schema_version: version of this schema.
    """

    model: str
    source: GraphSourceRecord
    module: ModuleRecord
    artifact: ArtifactRecord
    tensors: dict[str, str]
    parity: GraphParityRecord
    version: str
    kind: Literal["generated"] = "generated"
    schema_version: int = VERSION


def encode(manifest: GeneratedManifest) -> bytes:
    """Encode a manifest as JSON, with sorted keys."""
    document = msgspec.to_builtins(manifest)
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()
