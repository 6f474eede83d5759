"""The schema of manifests: the same structs write and read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import msgspec.structs
from msgspec import UNSET, Meta, Struct, UnsetType

from converter.errors import ArtifactError
from converter.manifests.graph_records import (  # noqa: TC001 - evaluated
    ModuleRecord,
    NodesRecord,
    ReplacedRecord,
    TensorRecord,
)
from converter.manifests.hashes import Sha256  # noqa: TC001 - evaluated
from converter.manifests.source_records import SourceRecord  # noqa: TC001 - evaluated
from converter.manifests.target_records import TargetRecord  # noqa: TC001 - evaluated
from converter.manifests.training_records import TrainingRecord  # noqa: TC001 - evaluated
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["native", "generated", "existing"]
NATIVE: Kind = "native"  # a network of ours, with names by a mapping file
GENERATED: Kind = "generated"  # a module that was generated from a graph
EXISTING: Kind = "existing"  # an existing module, aligned with a graph
TRAINED = "trained"  # not a conversion: a network of ours, trained further or from scratch
VERSION = 1  # raised when a key changes its meaning; new keys do not raise it
REQUIRED = {NATIVE: "mapping", GENERATED: "module", EXISTING: "target"}  # what each kind of network has
MAX_BYTES = 1 << 23  # 8 MiB: there may be many class names
# Keys that are absent rather than empty.
OPTIONAL = {
    *("mapping", "model_args", "narrowing", "module", "names", "schema_version", "target"),
    *("casts", "graph", "hub", "network", "preprocessing", "size", "wrapping"),
}

InputSize = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}\Z", description="height x width")]
Seed = Annotated[int, Meta(ge=0)]


class NewerManifestError(ArtifactError):
    """The manifest has a schema that this version does not know."""


class MappingRecord(Struct, frozen=True, kw_only=True):
    """The mapping file that the tensors were renamed by."""

    file: str
    sha256: Sha256


class PthRecord(Struct, frozen=True, kw_only=True):
    """The ``.pth`` that was written next to the artifact."""

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.pth\Z")]
    sha256: Sha256
    bytes: int


class DataRecord(Struct, frozen=True, kw_only=True):
    """The weights of an ONNX file of more than 2 GB, in a file of their own."""

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.onnx\.data\Z")]
    sha256: Sha256
    bytes: int


class ExportRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file with the network and its weights in float32, and what it was compared with.

    Attributes:
        file: its name.
        sha256: its SHA-256.
        bytes: its size.
        shape: the shape of its input, with one image.
        reference: what computed the expected outputs; "module" is the PyTorch module itself.
        relative: the largest difference, over the standard deviation of the expected output.
        limit: the largest that passes.
        versions: versions of the packages that wrote it and ran it.
        dynamic_batch: whether it takes any number of images; absent if it takes one.
        data: its weights, if they are in a file of their own.
    """

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.(onnx|pt2)\Z")]
    sha256: Sha256
    bytes: int
    shape: tuple[int, ...]
    reference: Literal["gluon", "numpy", "module"]
    relative: float
    limit: float
    versions: dict[str, str]
    dynamic_batch: bool = False
    data: DataRecord | None = None


class ArtifactRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``.safetensors`` that was written; ``pth`` and ``exports`` are absent without such files."""

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.safetensors\Z")]
    sha256: Sha256
    bytes: int
    dtypes: tuple[str, ...]
    tensors: int
    parameters: int
    pth: PthRecord | None = None
    exports: tuple[ExportRecord, ...] = ()


class ModelArguments(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The arguments of ``resnext_torch.create_model`` that differ from their defaults.

    Attributes:
        in_chans: channels of the input, if not 3.
        num_classes: 0 if the network has no head; another number is that of the head in the artifact.
        output_stride: output stride of a dilated network.
    """

    in_chans: Annotated[int, Meta(ge=1)] | None = None
    num_classes: Literal[0] | None = None
    output_stride: Literal[8, 16] | None = None


class WorstLayerRecord(Struct, frozen=True, kw_only=True):
    """The layer with the largest relative difference, of those that agree."""

    layer: str
    relative: float
    limit: float


class CheckRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The comparison for one probe.

    Attributes:
        dtype: precision of the run.
        seed: seed of the input.
        limit: largest relative difference of the logits that passes.
        layers: number of layers that agree; of a generated module, of layers and outputs.
        max_abs: largest absolute difference of the logits.
        relative: ``max_abs`` over the standard deviation of the reference's logits.
        worst: the layer with the largest relative difference.
        size: size of the input in pixels; absent for the module of a graph.
        inputs: shapes of the inputs of a graph, by name; absent for other networks.
        nodes: the comparison of every node of the graph; absent unless the module was generated.
    """

    dtype: str
    seed: Seed
    limit: float
    layers: int
    max_abs: float
    relative: float
    worst: WorstLayerRecord
    size: InputSize | None = None
    inputs: dict[str, tuple[int, ...]] | None = None
    nodes: NodesRecord | None = None

    @property
    def shape(self) -> str:
        """The size of the input, or the shapes of the inputs."""
        shapes = (self.inputs or {}).values()
        return self.size or " ".join("x".join(map(str, shape)) for shape in shapes)


class ParityRecord(Struct, frozen=True, kw_only=True):
    """The proof: its verdict, reference and checks.

    Attributes:
        proven: whether every check passed.
        reference: what computed the expected outputs.
        definition: "graph", the given graph, or "gluoncv", GluonCV's definition of the model.
        versions: versions of the packages that computed the outputs.
        checks: one per probe.
        replaced: the operators of a graph that MXNet does not compute in float64; absent without any.
    """

    proven: bool
    reference: Literal["gluon", "numpy", "none"]
    versions: dict[str, str]
    checks: tuple[CheckRecord, ...]
    definition: Literal["graph", "gluoncv"] | None = None
    replaced: ReplacedRecord | UnsetType = UNSET


class LogitsRecord(Struct, frozen=True, kw_only=True):
    """The difference of the logits before and after rounding, as in ``CheckRecord``."""

    dtype: str
    size: InputSize
    seed: Seed
    max_abs: float
    relative: float


class RoundingRecord(Struct, frozen=True, kw_only=True):
    """The effect of storing the weights in a narrower type.

    Attributes:
        dtype: the type.
        before: the proof of the weights before rounding.
        logits: the difference that rounding makes.
    """

    dtype: str
    before: ParityRecord
    logits: LogitsRecord


class FileDescription(Struct, frozen=True, kw_only=True):
    """What the manifests of converted and trained files have in common.

    Attributes:
        model: name of the model, or of the generated module.
        artifact: the file that was written.
        version: version of gluon2torch.
        labels: class names.
        model_args: the arguments that rebuild the network; absent if it is the network of that name.
        schema_version: version of this schema; 0, and absent, in manifests written before it had one.
    """

    model: str
    artifact: ArtifactRecord
    version: str
    labels: tuple[str, ...] | None = None
    model_args: ModelArguments | None = None
    schema_version: Annotated[int, Meta(ge=0)] = 0


class Manifest(FileDescription, frozen=True, kw_only=True):
    """What a conversion read, did, wrote and proved.

    Attributes:
        model: name of the model, or of the generated module.
        source: the file that was converted.
        artifact: the file that was written.
        parity: the proof of the written weights.
        version: version of gluon2torch.
        mapping: the mapping file; absent for a generated module.
        labels: class names.
        model_args: the arguments that rebuild the network; absent if it is the network of that name.
        narrowing: the effect of rounding; absent if the weights were not rounded.
        kind: "generated" for a generated module, "existing" for an existing module; absent
            for the networks that have a name.
        module: the generated module; absent without one.
        target: the existing module; absent without one.
        names: the names of the tensors of either, in the order of the source; absent for other networks.
        schema_version: version of this schema; 0, and absent, in manifests written before it had one.
    """

    source: SourceRecord
    parity: ParityRecord
    mapping: MappingRecord | None = None
    narrowing: RoundingRecord | None = None
    kind: Kind = NATIVE
    module: ModuleRecord | None = None
    target: TargetRecord | None = None
    names: tuple[TensorRecord, ...] = ()

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a generated module's inputs in the first check, by name; empty without a proof."""
        return next((dict(check.inputs or {}) for check in self.parity.checks), {})


class TrainedManifest(FileDescription, frozen=True, kw_only=True):
    """What a training run began with, wrote and measured. It converts nothing, so it proves nothing.

    Attributes:
        kind: "trained".
        model: name of the model.
        artifact: the file that was written.
        training: how the weights were trained.
        version: version of gluon2torch.
        labels: class names.
        model_args: the arguments that rebuild the network; absent if it is the network of that name.
        schema_version: version of this schema.
    """

    kind: Literal["trained"]
    training: TrainingRecord


AnyManifest = Manifest | TrainedManifest


class _AnyKind(Struct, frozen=True):
    """The key that decides which manifest a document is."""

    kind: str | None = None


def encode(manifest: AnyManifest) -> bytes:
    """Encode a manifest as JSON, with sorted keys."""
    document = _without_empty(msgspec.to_builtins(manifest))
    if manifest.kind == NATIVE:
        del document["kind"]
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _without_empty(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a document without the keys that are absent rather than empty."""
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each or key not in OPTIONAL}
    return [_without_empty(each) for each in value] if isinstance(value, list | tuple) else value


def read(path: Path) -> tuple[Manifest, bytes]:
    """Read the manifest of a converted file; return its bytes too.

    Raises:
        StorageError: if the file cannot be read.
        ArtifactError: if it is not a manifest, or that of a trained file.
        NewerManifestError: if it has a newer schema.
    """
    manifest, content = read_any(path)
    return require_conversion(path, manifest), content


def require_conversion(path: Path | str, manifest: AnyManifest) -> Manifest:
    """Return the manifest of a conversion.

    Raises:
        ArtifactError: if it is that of a trained file.
    """
    if isinstance(manifest, TrainedManifest):
        raise ArtifactError(f"{path}: the manifest of a trained file, not of a conversion")
    return manifest


def read_any(path: Path) -> tuple[AnyManifest, bytes]:
    """Read the manifest of a converted or trained file; return its bytes too.

    Raises:
        StorageError: if the file cannot be read.
        ArtifactError: if it is not a manifest.
        NewerManifestError: if it has a newer schema.
    """
    content = disk.read_small(path, MAX_BYTES)
    try:
        manifest = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # and ValidationError
        raise ArtifactError(f"{path}: not a manifest: {error}") from error
    if isinstance(manifest, Manifest) and getattr(manifest, REQUIRED[manifest.kind]) is None:
        raise ArtifactError(f"{path}: not a manifest: missing required field `{REQUIRED[manifest.kind]}`")
    if manifest.schema_version > VERSION:
        raise NewerManifestError(
            f"{path}: manifest schema {manifest.schema_version}; this version of gluon2torch reads up to "
            f"{VERSION}\npip install --upgrade gluon2torch"
        )
    return manifest, content


def _decode(content: bytes) -> AnyManifest:
    if msgspec.json.decode(content, type=_AnyKind).kind == TRAINED:
        return msgspec.json.decode(content, type=TrainedManifest)
    return msgspec.json.decode(content, type=Manifest)
