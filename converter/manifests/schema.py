"""A converted file as it lies on the disk, read back and held to what the manifest beside it says."""

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

MAX_MANIFEST_BYTES = 1 << 23  # class names are what may be many
RANDOM = ".random-"  # in the names of what seeded random parameters became; nothing else in a manifest tells


Sha1 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class SourceRecord(msgspec.Struct, frozen=True):
    """The ``.params`` file that the weights came from."""

    file: str
    sha1: Sha1
    official: bool
    symbol: str | None = None
    symbol_sha256: Sha256 | None = None
    final_softmax: bool | None = None
    fixed_gammas: tuple[str, ...] = ()


class MappingRecord(msgspec.Struct, frozen=True):
    """The table by which its names were mapped."""

    file: str
    sha256: Sha256


class PthRecord(msgspec.Struct, frozen=True):
    """The ``.pth`` that was written with it, beside it."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[^/\\\x00]+\.pth\Z")]
    sha256: Sha256
    bytes: int


class ArtifactRecord(msgspec.Struct, frozen=True):
    """The file that was written."""

    file: str
    sha256: Sha256
    bytes: int
    dtypes: tuple[str, ...]
    tensors: int
    parameters: int
    pth: PthRecord | None = None


class WorstLayerRecord(msgspec.Struct, frozen=True):
    """The layer that came nearest to its limit."""

    layer: str
    relative: float
    limit: float


class CheckRecord(msgspec.Struct, frozen=True):
    """One comparison; ``max_abs`` and ``relative`` are the logits'."""

    dtype: str
    size: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}\Z")]
    seed: Annotated[int, msgspec.Meta(ge=0)]
    limit: float
    layers: int
    max_abs: float
    relative: float
    worst: WorstLayerRecord


class ParityRecord(msgspec.Struct, frozen=True):
    """What was proven, and against what."""

    proven: bool
    reference: Literal["gluon", "numpy", "none"]
    versions: dict[str, str]
    checks: tuple[CheckRecord, ...]
    definition: Literal["graph", "gluoncv"] | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What a card and a folder need of a manifest; ``converter.manifests.builder`` writes it."""

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
    """A file and its manifest, which agree; ``model`` has the file's number of classes."""

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
        """Whether they are those that GluonCV published, not rounded, by the SHA-1 that the manifest has."""
        published = is_published(self.model, self.manifest.source.sha1)
        return published and not self.random and self.manifest.narrowing is None


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256.

    Raises:
        ArtifactError: if it cannot be read.
    """
    return disk.require_regular(path, ArtifactError).st_size, disk.sha256(path, ArtifactError)


def is_published(model: Model, sha1: str) -> bool:
    """Return whether a SHA-1 is that of the file that GluonCV published of a model with its own classes."""
    known = catalog.find(model.name)
    return sha1 == known.entry.params_sha1 and model.config.num_classes == known.config.num_classes


def require_consistent(place: Path, found: Manifest) -> None:
    """Refuse a manifest that contradicts itself: a proof of nothing, or one beyond its own limits.

    Raises:
        ArtifactError: with the contradiction.
        LabelsError: if the names of the classes cannot be such.
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


def _require_proof(place: Path, found: Manifest) -> None:
    """Refuse a proof that does not say of what and by what, or says it twice. Raises: ArtifactError."""
    proof = found.parity
    if not proof.checks or proof.reference == "none":
        raise ArtifactError(f"{place}: says proven, and not by what")
    if found.narrowing is not None:
        raise ArtifactError(f"{place}: says proven, of weights that were rounded")
    if proof.definition and (proof.definition == GRAPH) != (found.source.symbol is not None):
        raise ArtifactError(
            f"{place}: the proof is of {proof.definition}, the graph is {found.source.symbol}"
        )
    if found.source.symbol_sha256 and proof.definition != GRAPH:
        raise ArtifactError(f"{place}: has a graph, and the proof is not of it")
    needed = {"numpy", "torch", *(("mxnet", "gluoncv") if proof.reference == "gluon" else ())}
    if absent := sorted(needed - proof.versions.keys()):
        raise ArtifactError(f"{place}: a proof without the version of {' and '.join(absent)}")
    if len({(check.dtype, check.size, check.seed) for check in proof.checks}) < len(proof.checks):
        raise ArtifactError(f"{place}: holds the same check twice")


def _require_passed(place: Path, check: CheckRecord) -> None:
    """Refuse a check that is beyond its limits, or beyond ours. Raises: ArtifactError."""
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
    """Return whether a manifest tells of seeded random numbers."""
    begin = found.model + RANDOM
    return any(file.startswith(begin) for file in (found.source.file, found.artifact.file))


class _Bytes(msgspec.Struct, frozen=True):
    sha256: str = ""


class _Pair(msgspec.Struct, frozen=True):
    sha256: str
    file: str = ""
    pth: _Bytes = _Bytes()


class _Origin(msgspec.Struct, frozen=True):
    file: str = ""
    sha1: str = ""
    official: bool = False


class _Proof(msgspec.Struct, frozen=True):
    proven: bool = False


class _Rounding(msgspec.Struct, frozen=True):
    dtype: str = ""
    before: _Proof = _Proof()


class ManifestSummary(msgspec.Struct, frozen=True):
    """What a manifest, of whatever version, tells of the weights beside it."""

    artifact: _Pair
    model: str = ""
    source: _Origin = _Origin()
    parity: _Proof = _Proof()
    narrowing: _Rounding | None = None
    labels: tuple[str, ...] | None = None

    @property
    def warning(self) -> str:
        """What a user of the weights must know: that they are random or unproven; "" if they are neither."""
        if is_random(self):
            return "the weights are random numbers"
        if self.parity.proven:
            return ""
        if self.narrowing is not None and self.narrowing.before.proven:
            return f"the weights were proven before they were rounded to {self.narrowing.dtype}, not since"
        return "the weights are not proven to be those of the network that they were converted from"


def read_summary(path: Path) -> ManifestSummary | None:
    """Return the manifest of these very bytes that lies in their folder, whatever it is called; else None.

    A ``.pth`` that was written with an artifact has the artifact's, a published file that of its folder.
    """
    sha256 = ""
    for place in sorted(path.parent.glob("*.json"), key=lambda place: place.stem != path.stem):
        try:
            written = disk.read_small(place, MAX_MANIFEST_BYTES, ArtifactError)
            found = msgspec.json.decode(written, type=ManifestSummary)
        except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # another program's
            continue
        sha256 = sha256 or disk.sha256(path, CheckpointError)
        if sha256 in {found.artifact.sha256, found.artifact.pth.sha256}:
            return found
    return None


def read_manifest(place: Path) -> tuple[bytes, Manifest]:
    """Read a manifest; return its bytes too.

    Errors: ``ArtifactError``.
    """
    written = disk.read_small(place, MAX_MANIFEST_BYTES, ArtifactError)
    try:
        return written, msgspec.json.decode(written, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a ValidationError is one
        raise ArtifactError(f"{place}: no manifest: {error}") from error


def model_of(path: Path, found: Manifest) -> Model:
    """Return the model that both the manifest and the tensors name, with the file's classes.

    The file must begin as those do that we write: no other kind of file, no other names than PyTorch's.

    Errors: ``ArtifactError`` where they do not agree, ``CatalogError``, ``CheckpointError``.
    """
    known = catalog.find(found.model)
    if known.name != found.model:
        raise ArtifactError(f"{path}: its manifest says model {found.model}; {known.name} expected")
    arrays = _outline(path)
    dtypes = {str(array.dtype) for array in arrays.values() if array.shape}
    if (len(arrays), dtypes) != (found.artifact.tensors, set(found.artifact.dtypes)):
        raise ArtifactError(f"{path}: its manifest tells of other tensors than are in it")
    fitting = detection.match_torch(arrays)
    for model in fitting:
        if model.name == known.name:
            matching.complete(model.mapping, arrays, model.shapes, str(path))
            _require_layers(path, found, model)
            return _labelled(path, found, model)
    others = " or ".join(model.name for model in fitting) or "no model"
    raise ArtifactError(f"{path}: its manifest says {known.name}, its tensors are those of {others}")


def _outline(path: Path) -> Arrays:
    """Return the arrays of a file's header, which is the one that we write for them; nothing else is read.

    Errors: ``ArtifactError`` where it is not, ``CheckpointError``.
    """
    found = checkpoint.kind(path)
    if found is not Kind.safetensors:
        raise ArtifactError(f"{path}: a .safetensors of ours expected, {found} found")
    arrays = checkpoint.read(path)
    header, _ = artifact.layout(arrays)
    with path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError(f"{path}: its header is not the one that we write for these tensors")
    return arrays


def _require_layers(path: Path, found: Manifest, model: Model) -> None:
    """Refuse a proof of other layers than the model's. Errors: ``ArtifactError``."""
    known = {layer.source for layer in model.mapping.layers}
    for check in found.parity.checks if found.parity.proven else ():
        if check.layers != len(known) or check.worst.layer not in known:
            raise ArtifactError(
                f"{path}: its manifest tells of a proof of other layers than {model.name} has"
            )


def _labelled(path: Path, found: Manifest, model: Model) -> Model:
    classes = model.config.num_classes
    if found.artifact.parameters != model.parameters:
        raise ArtifactError(f"{path}: its manifest tells of other parameters than are in it")
    if found.labels is not None and len(found.labels) != classes:
        raise ArtifactError(f"{path}: its manifest names {len(found.labels)} classes, its head has {classes}")
    return model
