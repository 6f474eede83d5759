"""The results of ``inspect``: what a weight file, a graph or a folder is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.formats.state_dicts import TOP_LEVEL

if TYPE_CHECKING:
    from converter.commands.tensor_statistics import TensorSummary
    from converter.formats.kinds import Kind
    from converter.formats.state_dicts import Location
    from converter.manifests.source_records import PreprocessingRecord, WrappingRecord
    from converter.networks.catalog import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedOperator:
    """An operator that cannot be converted, with the reason and the names of its nodes."""

    operator: str
    reason: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSummary:
    """The contents of a graph.

    Attributes:
        inputs: the variables that are no parameters, such as the data.
        outputs: the names of the nodes that are the outputs.
        nodes: the number of nodes, variables included.
        operators: the number of nodes of each operator, most frequent first.
        parameters: the number of parameters that it needs.
        labels: the labels, which are no inputs of the converted network.
        dropped: the outputs for training only, which the converted network does not have.
        casts: the number of casts between floating types, which are not converted.
        unsupported: the operators that cannot be converted.
        shapes: the known sizes of the parameters, None for a parameter or a size that is unknown.
        obstacle: why the graph has nothing to convert, "" if it has.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int
    operators: tuple[tuple[str, int], ...]
    parameters: int
    labels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    casts: int = 0
    unsupported: tuple[UnsupportedOperator, ...] = ()
    shapes: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def is_convertible(self) -> bool:
        """Whether the graph has outputs, and every operator that they need can be converted."""
        return not (self.unsupported or self.obstacle)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEntry:
    """A file in a folder.

    Attributes:
        name: its name.
        what: what it is, in a few words.
        kind: its kind, None for class names.
        is_converted: whether a manifest in the folder records it as converted.
        is_trained: whether a manifest in the folder records it as trained.
    """

    name: str
    what: str
    kind: Kind | None = None
    is_converted: bool = False
    is_trained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Description of a weight file, a graph or a folder.

    Attributes:
        file: name of the file or folder.
        size: size in bytes.
        archive: kind of archive, None if the file is not packed.
        container: container format of the arrays.
        records: formats of the ``.params`` records.
        dialect: naming style.
        prefix: prefix of the names.
        models: models that the tensors match.
        network: GluonCV's network whose recorded graph has these parameters, None if they are a model's.
        nearest: nearest model, None if the tensors are those of a model or of such a network.
        module: the generated module that the tensors belong to, None for others.
        dtypes: number of arrays of each type, most frequent first.
        tensors: number of arrays.
        numbers: number of floating-point elements.
        sha1: SHA-1 of the unpacked file; None if only headers were read, as of a file that matches a model.
        official: model whose published file this is, by GluonCV's name if it is not native, False if
            there is none; None if there is no ``sha1``.
        statistics: summaries by part and role; None if only headers were read.
        remark: what could not be determined, with the reason.
        graph: name of the graph that belongs to the parameters.
        graph_differences: differences between that graph and the model, as lines.
        location: where the weights are in a PyTorch checkpoint.
        wrapping: how Gluon parameters differ from those that GluonCV saves, None if they do not.
        preprocessing: the normalization of images that was exported with the network.
        kind: kind of the file, None for a folder.
        is_converted: whether a manifest in the file's folder records it as converted.
        is_trained: whether a manifest in the file's folder records it as trained.
        verdict: what the file is and what to do with it, in one sentence.
        step: the next command, "" for that at the end of the verdict.
        values: number of elements of every type.
        summary: contents of a graph; ``models`` are those that it is the graph of.
        entries: files in a folder that concern networks; None if it is not a folder.
        others: number of the other files in a folder.
    """

    file: str
    size: int
    archive: str | None = None
    container: str | None = None
    records: tuple[str, ...] = ()
    dialect: str | None = None
    prefix: str | None = None
    models: tuple[Model, ...] = ()
    network: str | None = None
    nearest: str | None = None
    module: str | None = None
    dtypes: tuple[tuple[str, int], ...] = ()
    tensors: int | None = None
    numbers: int | None = None
    sha1: str | None = None
    official: str | bool | None = None
    statistics: tuple[TensorSummary, ...] | None = None
    remark: str | None = None
    graph: str | None = None
    graph_differences: tuple[str, ...] = ()
    location: Location = TOP_LEVEL
    wrapping: WrappingRecord | None = None
    preprocessing: PreprocessingRecord | None = None
    kind: Kind | None = None
    is_converted: bool = False
    is_trained: bool = False
    verdict: str = ""
    step: str = ""
    values: int | None = None
    summary: GraphSummary | None = None
    entries: tuple[FolderEntry, ...] | None = None
    others: int = 0
