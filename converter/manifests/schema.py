"""The schema of manifests, and functions that compare a converted file with its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from converter.errors import ArtifactError, CheckpointError
from converter.formats import artifact, checkpoint, labels
from converter.formats.checkpoint import Kind
from converter.networks import catalog, detection, matching
from converter.parity.result import LARGEST, LAYER_LIMITS, LIMITS, SMALLEST
from converter.parity.strength import GRAPH
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model

MAX_MANIFEST_BYTES = 1 << 23  # 8 MiB: there may be many class names
RANDOM = ".random-"  # marks seeded random weights in file names, the only sign of them in a manifest


Sha1 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class SourceRecord(msgspec.Struct, frozen=True):
    """The ``.params`` file that the weights were converted from."""

    file: str
    sha1: Sha1
    official: bool
    symbol: str | None = None
    symbol_sha256: Sha256 | None = None
    final_softmax: bool | None = None
    fixed_gammas: tuple[str, ...] = ()


class MappingRecord(msgspec.Struct, frozen=True):
    """The mapping file that the tensors were renamed by."""

    file: str
    sha256: Sha256


class PthRecord(msgspec.Struct, frozen=True):
    """The ``.pth`` that was written next to the artifact."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[^/\\\x00]+\.pth\Z")]
    sha256: Sha256
    bytes: int


class ArtifactRecord(msgspec.Struct, frozen=True):
    """The ``.safetensors`` that was written."""

    file: str
    sha256: Sha256
    bytes: int
    dtypes: tuple[str, ...]
    tensors: int
    parameters: int
    pth: PthRecord | None = None


class WorstLayerRecord(msgspec.Struct, frozen=True):
    """The layer with the largest relative difference."""

    layer: str
    relative: float
    limit: float


class CheckRecord(msgspec.Struct, frozen=True):
    """The comparison for one probe; ``max_abs`` and ``relative`` are of the logits."""

    dtype: str
    size: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}\Z")]
    seed: Annotated[int, msgspec.Meta(ge=0)]
    limit: float
    layers: int
    max_abs: float
    relative: float
    worst: WorstLayerRecord


class ParityRecord(msgspec.Struct, frozen=True):
    """The proof: its verdict, reference and checks."""

    proven: bool
    reference: Literal["gluon", "numpy", "none"]
    versions: dict[str, str]
    checks: tuple[CheckRecord, ...]
    definition: Literal["graph", "gluoncv"] | None = None


class Manifest(msgspec.Struct, frozen=True):
    """The fields of a manifest that are read back; ``converter.manifests.builder`` writes them."""

    model: str
    source: SourceRecord
    mapping: MappingRecord
    artifact: ArtifactRecord
    parity: ParityRecord
    version: str
    labels: tuple[str, ...] | None = None
    narrowing: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A converted file that matches its manifest.

    Attributes:
        path: the file.
        model: the model, with the file's number of classes.
        manifest: the parsed manifest.
        manifest_bytes: the manifest as it is stored.
    """

    path: Path
    model: Model
    manifest: Manifest
    manifest_bytes: bytes

    @property
    def random(self) -> bool:
        """Whether the weights are seeded random numbers."""
        return is_random(self.manifest)

    @property
    def official(self) -> bool:
        """Whether the weights are those that GluonCV published, not rounded, by the source's SHA-1."""
        published = is_published(self.model, self.manifest.source.sha1)
        return published and not self.random and self.manifest.narrowing is None


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256.

    Raises:
        ArtifactError: if the file cannot be read.
    """
    return disk.require_regular(path, ArtifactError).st_size, disk.sha256(path, ArtifactError)


def is_published(model: Model, sha1: str) -> bool:
    """Return whether a SHA-1 is of GluonCV's published file and the model has its original classes."""
    original = catalog.find(model.name)
    return sha1 == original.entry.params_sha1 and model.config.num_classes == original.config.num_classes


def require_consistent(place: Path, found: Manifest) -> None:
    """Refuse a manifest that contradicts itself: a proof without checks, or beyond its own limits.

    Raises:
        ArtifactError: if the manifest contradicts itself.
        LabelsError: if the class names are not valid.
    """
    labels.require_valid(found.labels or (), str(place))
    for check in found.parity.checks:
        sizes = [int(side) for side in check.size.split("x")]
        if not all(SMALLEST <= side <= LARGEST for side in sizes):
            raise ArtifactError(f"{place}: a proof at {check.size}; {SMALLEST} to {LARGEST} pixels expected")
    if found.parity.proven:
        _require_proof(place, found)
        for check in found.parity.checks:
            _require_passed(place, check)


def _require_proof(place: Path, manifest: Manifest) -> None:
    """Refuse a proof with missing, contradictory or duplicate entries.

    Raises:
        ArtifactError: if an entry is missing, contradicts the manifest or occurs twice.
    """
    proof = manifest.parity
    if not proof.checks or proof.reference == "none":
        raise ArtifactError(f"{place}: says proven, and not by what")
    if manifest.narrowing is not None:
        raise ArtifactError(f"{place}: says proven, of weights that were rounded")
    if proof.definition and (proof.definition == GRAPH) != (manifest.source.symbol is not None):
        raise ArtifactError(
            f"{place}: the proof is of {proof.definition}, the graph is {manifest.source.symbol}"
        )
    if manifest.source.symbol_sha256 and proof.definition != GRAPH:
        raise ArtifactError(f"{place}: has a graph, and the proof is not of it")
    packages = {"numpy", "torch", *(("mxnet", "gluoncv") if proof.reference == "gluon" else ())}
    if absent := sorted(packages - proof.versions.keys()):
        raise ArtifactError(f"{place}: a proof without the version of {' and '.join(absent)}")
    if len({(check.dtype, check.size, check.seed) for check in proof.checks}) < len(proof.checks):
        raise ArtifactError(f"{place}: holds the same check twice")


def _require_passed(place: Path, check: CheckRecord) -> None:
    """Refuse a check that exceeds its own limits or ours.

    Raises:
        ArtifactError: if a limit is exceeded or the numbers contradict each other.
    """
    limit = min(check.worst.limit, LAYER_LIMITS.get(check.dtype, 0))
    if not (check.layers > 0 and 0 <= check.worst.relative <= limit):
        raise ArtifactError(
            f"{place}: says proven, and {check.worst.layer} is apart by {check.worst.relative:.1e} in "
            f"{check.dtype} at {check.size}; at most {limit:.0e} expected"
        )
    if not (0 <= check.relative <= LIMITS[check.dtype] and check.max_abs >= 0):
        raise ArtifactError(
            f"{place}: says proven, and the logits are apart by {check.relative:.1e} in {check.dtype} at "
            f"{check.size}; at most {LIMITS[check.dtype]:.0e} expected"
        )
    if check.limit != LIMITS[check.dtype] or (check.max_abs > 0) != (check.relative > 0):
        raise ArtifactError(f"{place}: the numbers in {check.dtype} at {check.size} contradict each other")


def is_random(found: Manifest | ManifestSummary) -> bool:
    """Return whether a manifest is of seeded random weights."""
    prefix = found.model + RANDOM
    return any(file.startswith(prefix) for file in (found.source.file, found.artifact.file))


class _PthSummary(msgspec.Struct, frozen=True):
    sha256: str = ""


class _ArtifactSummary(msgspec.Struct, frozen=True):
    sha256: str
    file: str = ""
    pth: _PthSummary = _PthSummary()


class _SourceSummary(msgspec.Struct, frozen=True):
    file: str = ""
    sha1: str = ""
    official: bool = False


class _ParitySummary(msgspec.Struct, frozen=True):
    proven: bool = False


class _NarrowingSummary(msgspec.Struct, frozen=True):
    dtype: str = ""
    before: _ParitySummary = _ParitySummary()


class ManifestSummary(msgspec.Struct, frozen=True):
    """The fields about the weights that manifests of all versions have in common."""

    artifact: _ArtifactSummary
    model: str = ""
    source: _SourceSummary = _SourceSummary()
    parity: _ParitySummary = _ParitySummary()
    narrowing: _NarrowingSummary | None = None
    labels: tuple[str, ...] | None = None

    @property
    def warning(self) -> str:
        """Warning for users of random or unproven weights, "" if they are neither."""
        if is_random(self):
            return "the weights are random numbers"
        if self.parity.proven:
            return ""
        if self.narrowing is not None and self.narrowing.before.proven:
            return f"the weights were proven before they were rounded to {self.narrowing.dtype}, not since"
        return "the weights are not proven to be those of the network that they were converted from"


def read_summary(path: Path) -> ManifestSummary | None:
    """Return the manifest in the file's folder that records its SHA-256; None if there is none.

    The manifest may have any name. It records an artifact and the ``.pth`` that was written with it; in
    a published folder it records the weights.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    sha256 = ""
    for place in sorted(path.parent.glob("*.json"), key=lambda place: place.stem != path.stem):
        try:
            content = disk.read_small(place, MAX_MANIFEST_BYTES, ArtifactError)
            summary = msgspec.json.decode(content, type=ManifestSummary)
        except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # not ours
            continue
        sha256 = sha256 or disk.sha256(path, CheckpointError)
        if sha256 in {summary.artifact.sha256, summary.artifact.pth.sha256}:
            return summary
    return None


def read_manifest(place: Path) -> tuple[bytes, Manifest]:
    """Read a manifest; return its bytes too.

    Raises:
        ArtifactError: if it cannot be read or is not a manifest.
    """
    content = disk.read_small(place, MAX_MANIFEST_BYTES, ArtifactError)
    try:
        return content, msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # and ValidationError
        raise ArtifactError(f"{place}: no manifest: {error}") from error


def model_of(path: Path, found: Manifest) -> Model:
    """Return the model that the manifest and the tensors agree on, with the file's number of classes.

    The file must begin with the header that we write: other kinds of files and other names than
    PyTorch's are refused.

    Raises:
        ArtifactError: if the manifest and the file disagree.
        CatalogError: if the manifest's model is unknown.
        CheckpointError: if the file cannot be read.
    """
    named_model = catalog.find(found.model)
    if named_model.name != found.model:
        raise ArtifactError(f"{path}: its manifest says model {found.model}; {named_model.name} expected")
    arrays = _header_arrays(path)
    dtypes = {str(array.dtype) for array in arrays.values() if array.shape}
    if (len(arrays), dtypes) != (found.artifact.tensors, set(found.artifact.dtypes)):
        raise ArtifactError(f"{path}: its manifest tells of other tensors than are in it")
    matches = detection.match_torch(arrays)
    for model in matches:
        if model.name == named_model.name:
            matching.complete(model.mapping, arrays, model.shapes, str(path))
            _require_layers(path, found, model)
            return _require_counts(path, found, model)
    others = " or ".join(model.name for model in matches) or "no model"
    raise ArtifactError(f"{path}: its manifest says {named_model.name}, its tensors are those of {others}")


def _header_arrays(path: Path) -> Arrays:
    """Return the arrays in a file's header, which must be the one that we write; read nothing else.

    Raises:
        ArtifactError: if the file is of another kind or has another header.
        CheckpointError: if the file cannot be read.
    """
    kind = checkpoint.kind(path)
    if kind is not Kind.safetensors:
        raise ArtifactError(f"{path}: a .safetensors of ours expected, {kind} found")
    arrays = checkpoint.read(path)
    header, _ = artifact.layout(arrays)
    with path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError(f"{path}: its header is not the one that we write for these tensors")
    return arrays


def _require_layers(path: Path, manifest: Manifest, model: Model) -> None:
    """Refuse a proof for other layers than the model's.

    Raises:
        ArtifactError: if a check has another number of layers or names an unknown one.
    """
    layers = {layer.source for layer in model.mapping.layers}
    for check in manifest.parity.checks if manifest.parity.proven else ():
        if check.layers != len(layers) or check.worst.layer not in layers:
            raise ArtifactError(
                f"{path}: its manifest tells of a proof of other layers than {model.name} has"
            )


def _require_counts(path: Path, manifest: Manifest, model: Model) -> Model:
    """Return the model if its numbers of parameters and classes are those in the manifest.

    Raises:
        ArtifactError: if a number differs.
    """
    classes = model.config.num_classes
    if manifest.artifact.parameters != model.parameters:
        raise ArtifactError(f"{path}: its manifest tells of other parameters than are in it")
    if manifest.labels is not None and len(manifest.labels) != classes:
        raise ArtifactError(
            f"{path}: its manifest names {len(manifest.labels)} classes, its head has {classes}"
        )
    return model
