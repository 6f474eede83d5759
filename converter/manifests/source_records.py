"""The part of a manifest that describes what was converted."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from converter.manifests.graph_records import GraphRecord  # noqa: TC001 - evaluated
from converter.manifests.hashes import Sha1, Sha256  # noqa: TC001 - evaluated


class PreprocessingRecord(Struct, frozen=True, kw_only=True):
    """The normalization of images that was exported with the network, and is not part of the artifact.

    Attributes:
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
    """

    mean: Annotated[tuple[float, ...], Meta(min_length=1)]
    std: Annotated[tuple[float, ...], Meta(min_length=1)]


class WrappingRecord(Struct, frozen=True, kw_only=True):
    """How the file's parameters differ from those that GluonCV saves for the model.

    Attributes:
        description: where the network is in the file, in one line.
        unused: patterns of the names that are not part of the converted network.
        zeros: Gluon's names of the parameters that the file lacks and that are zero.
    """

    description: str
    unused: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()


class HubRecord(Struct, frozen=True, kw_only=True):
    """The checkpoint on the Hugging Face Hub that the ``.params`` file was rebuilt from.

    Attributes:
        repository: ORG/NAME.
        revision: the commit.
    """

    repository: Annotated[str, Meta(pattern=r"^[\w.-]+/[\w.-]+\Z")]
    revision: Sha1


class SourceRecord(Struct, frozen=True, kw_only=True):
    """The ``.params`` file that the weights were converted from.

    Attributes:
        file: its name, or the name of the archive.
        sha1: SHA-1 of the unpacked file.
        official: whether this is GluonCV's published file.
        archive: kind of archive, None if the file was not packed.
        container: container format of the arrays.
        records: formats of the array records.
        dialect: naming style.
        symbol: name of the graph that belongs to the parameters.
        symbol_sha256: SHA-256 of the graph.
        final_softmax: whether the graph ends in a softmax, which is not part of the converted network.
        fixed_gammas: patterns of the gammas that the graph fixes at 1.
        casts: whether the graph has casts between floating types, which are not part of the converted
            network; absent if not.
        wrapping: how the parameters differ from those that GluonCV saves; absent if they do not.
        preprocessing: the normalization of images that was exported with the network; absent without one.
        graph: what was converted of the graph; absent unless the module was generated from it.
        hub: the checkpoint that the file was rebuilt from; absent if it was not.
        network: GluonCV's name of the network whose recorded graph was converted; absent if the graph was a
            file.
    """

    file: str
    sha1: Sha1
    official: bool
    archive: str | None = None
    container: str | None = None
    records: tuple[str, ...] = ()
    dialect: str | None = None
    symbol: str | None = None
    symbol_sha256: Sha256 | None = None
    final_softmax: bool | None = None
    fixed_gammas: tuple[str, ...] = ()
    casts: bool = False
    wrapping: WrappingRecord | None = None
    preprocessing: PreprocessingRecord | None = None
    graph: GraphRecord | None = None
    hub: HubRecord | None = None
    network: str | None = None
