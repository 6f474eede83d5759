"""The schema of manifests: the same structs write and read them."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from converter.errors import ArtifactError
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

DIALECT = "https://json-schema.org/draft/2020-12/schema"
GENERATED = "generated"  # the kind of a manifest of a generated module
VERSION = 1  # raised when a key changes its meaning; new keys do not raise it
MAX_BYTES = 1 << 23  # 8 MiB: there may be many class names

Sha1 = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
InputSize = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}\Z", description="height x width")]
Seed = Annotated[int, Meta(ge=0)]


class NewerManifestError(ArtifactError):
    """The manifest has a schema that this version does not know."""


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


class PreprocessingRecord(Struct, frozen=True, kw_only=True):
    """The normalization of images that was exported with the network, and is not part of the artifact.

    Attributes:
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
    """

    mean: Annotated[tuple[float, ...], Meta(min_length=1)]
    std: Annotated[tuple[float, ...], Meta(min_length=1)]


class _Kind(Struct, frozen=True):
    kind: str = ""


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


class MappingRecord(Struct, frozen=True, kw_only=True):
    """The mapping file that the tensors were renamed by."""

    file: str
    sha256: Sha256


class PthRecord(Struct, frozen=True, kw_only=True):
    """The ``.pth`` that was written next to the artifact."""

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.pth\Z")]
    sha256: Sha256
    bytes: int


class ArtifactRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``.safetensors`` that was written; ``pth`` is absent without a ``.pth``."""

    file: Annotated[str, Meta(pattern=r"^[^/\\\x00]+\.safetensors\Z")]
    sha256: Sha256
    bytes: int
    dtypes: tuple[str, ...]
    tensors: int
    parameters: int
    pth: PthRecord | None = None


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
    """The layer with the largest relative difference."""

    layer: str
    relative: float
    limit: float


class CheckRecord(Struct, frozen=True, kw_only=True):
    """The comparison for one probe.

    Attributes:
        dtype: precision of the run.
        size: size of the input in pixels.
        seed: seed of the input.
        limit: largest relative difference of the logits that passes.
        layers: number of compared layers.
        max_abs: largest absolute difference of the logits.
        relative: ``max_abs`` over the standard deviation of the reference's logits.
        worst: the layer with the largest relative difference.
    """

    dtype: str
    size: InputSize
    seed: Seed
    limit: float
    layers: int
    max_abs: float
    relative: float
    worst: WorstLayerRecord


class ParityRecord(Struct, frozen=True, kw_only=True):
    """The proof: its verdict, reference and checks.

    Attributes:
        proven: whether every check passed.
        reference: what computed the expected outputs.
        definition: "graph", the given graph, or "gluoncv", GluonCV's definition of the model.
        versions: versions of the packages that computed the outputs.
        checks: one per probe.
    """

    proven: bool
    reference: Literal["gluon", "numpy", "none"]
    versions: dict[str, str]
    checks: tuple[CheckRecord, ...]
    definition: Literal["graph", "gluoncv"] | None = None


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


class Manifest(Struct, frozen=True, kw_only=True):
    """What a conversion read, did, wrote and proved.

    Attributes:
        model: name of the model.
        source: the file that was converted.
        mapping: the mapping file.
        artifact: the file that was written.
        parity: the proof of the written weights.
        labels: class names.
        version: version of gluon2torch.
        model_args: the arguments that rebuild the network; absent if it is the network of that name.
        narrowing: the effect of rounding; absent if the weights were not rounded.
        schema_version: version of this schema; 0, and absent, in manifests written before it had one.
    """

    model: str
    source: SourceRecord
    mapping: MappingRecord
    artifact: ArtifactRecord
    parity: ParityRecord
    version: str
    labels: tuple[str, ...] | None = None
    model_args: ModelArguments | None = None
    narrowing: RoundingRecord | None = None
    schema_version: Annotated[int, Meta(ge=0)] = 0


def encode(manifest: Manifest) -> bytes:
    """Encode a manifest as JSON, with sorted keys."""
    document = msgspec.to_builtins(manifest)
    for key in ("model_args", "narrowing", "schema_version"):  # absent rather than empty
        if not document[key]:
            del document[key]
    for key in ("casts", "wrapping", "preprocessing"):
        if not document["source"][key]:
            del document["source"][key]
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def read(path: Path) -> tuple[Manifest, bytes]:
    """Read a manifest; return its bytes too.

    Raises:
        StorageError: if the file cannot be read.
        ArtifactError: if it is not a manifest.
        NewerManifestError: if it has a newer schema.
    """
    content = disk.read_small(path, MAX_BYTES)
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # and ValidationError
        if _is_generated(content):
            raise ArtifactError(
                f"{path}: describes a module that was generated from a graph, which this command cannot check"
            ) from error
        raise ArtifactError(f"{path}: not a manifest: {error}") from error
    if manifest.schema_version > VERSION:
        raise NewerManifestError(
            f"{path}: manifest schema {manifest.schema_version}; this version of gluon2torch reads up to "
            f"{VERSION}\npip install --upgrade gluon2torch"
        )
    return manifest, content


def _is_generated(content: bytes) -> bool:
    """Return whether a manifest is that of a generated module, whose schema is another."""
    try:
        return msgspec.json.decode(content, type=_Kind).kind == GENERATED
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of manifests, which docs/manifest.schema.json publishes."""
    text = json.dumps(msgspec.json.schema(Manifest)).replace(
        r"\\Z", "$"
    )  # in ECMAScript, $ matches only the end
    document: dict[str, Any] = {"$schema": DIALECT, **json.loads(text)}
    for definition in document["$defs"].values():
        summary, _, attributes = inspect.cleandoc(definition["description"]).partition("\n\nAttributes:\n")
        definition["description"] = summary
        for line in re.sub(r"\n {5,}", " ", attributes).splitlines():
            name, _, description = line.strip().partition(": ")
            definition["properties"][name]["description"] = description
    return document
