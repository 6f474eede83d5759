"""A converted or trained file next to its manifest, and whether the two belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from converter.errors import ArtifactError, StorageError, UsageError
from converter.formats import artifact, checkpoint, detect
from converter.formats.kinds import Kind
from converter.manifests import schema
from converter.manifests.schema import NewerManifestError, TrainedManifest
from converter.networks import catalog, detection, matching
from converter.storage import disk
from resnext_torch.config import COLOURS
from resnext_torch.weight_files import RecordedInput

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.manifests.graph_records import ModuleRecord
    from converter.manifests.schema import AnyManifest, Manifest
    from converter.networks.catalog import Model

RANDOM = ".random-"  # marks seeded random weights in file names, the only sign of them in a manifest


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A converted or trained file that matches its manifest.

    Attributes:
        path: the file.
        model: the model, with the file's number of classes; None for the module of a graph.
        manifest: the parsed manifest.
        manifest_bytes: the manifest as it is stored.
    """

    path: Path
    model: Model | None
    manifest: AnyManifest
    manifest_bytes: bytes

    @property
    def random(self) -> bool:
        """Whether the weights are seeded random numbers."""
        return is_random(self.manifest)

    @property
    def official(self) -> bool:
        """Whether the weights are those that GluonCV published, not rounded, by the source's SHA-1."""
        if self.model is None or isinstance(self.manifest, TrainedManifest):
            return False
        published = is_published(self.model, self.manifest.source.sha1)
        return published and not self.random and self.manifest.narrowing is None

    @property
    def trained(self) -> bool:
        """Whether the weights were trained after the conversion, so that no parity is claimed."""
        return isinstance(self.manifest, TrainedManifest)

    @property
    def proven(self) -> bool:
        """Whether the manifest says that the weights compute the same outputs as their source."""
        return not isinstance(self.manifest, TrainedManifest) and self.manifest.parity.proven


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256.

    Raises:
        StorageError: if the file cannot be read.
    """
    return disk.require_regular(path).st_size, disk.sha256(path)


def is_published(model: Model, sha1: str) -> bool:
    """Return whether a SHA-1 is of GluonCV's published file and the model is its network or backbone."""
    original = catalog.find(model.name)
    alike = model.with_config(output_stride=original.config.output_stride)
    return sha1 == original.entry.params_sha1 and alike in {original, original.with_config(num_classes=0)}


def is_random(manifest: AnyManifest) -> bool:
    """Return whether a manifest is of seeded random weights."""
    if isinstance(manifest, TrainedManifest):
        return False
    # The module of a recorded network has another name than the network: mobilenet0_25.
    prefixes = tuple(f"{name}{RANDOM}" for name in (manifest.model, manifest.source.network) if name)
    return any(file.startswith(prefixes) for file in (manifest.source.file, manifest.artifact.file))


def generated_module(manifest: AnyManifest) -> ModuleRecord | None:
    """Return the generated module of a manifest, None for the networks that have a name."""
    return None if isinstance(manifest, TrainedManifest) else manifest.module


def find_manifest(path: Path) -> AnyManifest | None:
    """Return the manifest in the file's folder that records its SHA-256; None if there is none.

    The manifest may have any name. It records an artifact and the ``.pth`` that was written with it; in
    a published folder it records the weights.

    Raises:
        StorageError: if the file cannot be read.
        NewerManifestError: if the file's own manifest has a newer schema.
    """
    sha256 = ""
    for candidate in sorted(path.parent.glob("*.json"), key=lambda candidate: candidate.stem != path.stem):
        try:
            manifest, _ = schema.read_any(candidate)
        except NewerManifestError:
            if candidate.stem in {path.stem, "manifest"}:
                raise
            continue
        except (ArtifactError, StorageError):  # another kind of file
            continue
        sha256 = sha256 or disk.sha256(path)
        pth = manifest.artifact.pth
        if sha256 == manifest.artifact.sha256 or (pth and sha256 == pth.sha256):
            return manifest
    return None


def with_recorded_stride(model: Model, manifest: AnyManifest | None) -> Model:
    """Return a model with the output stride in a manifest, which its tensors do not show.

    Raises:
        ArtifactError: if the model cannot have the output stride.
    """
    arguments = manifest.model_args if manifest else None
    if arguments is None or arguments.output_stride is None:
        return model
    try:
        return model.with_config(output_stride=arguments.output_stride)
    except UsageError as error:
        raise ArtifactError(f"model arguments in the manifest: {error}") from error


def recorded_input(manifest: AnyManifest | None) -> RecordedInput:
    """Return the normalization and the size of images that a manifest records, empty without any."""
    settings = RecordedInput()
    if manifest is None:
        return settings
    origin = manifest.training if isinstance(manifest, TrainedManifest) else manifest.source
    if normalization := origin.preprocessing:
        settings |= {"mean": normalization.mean, "std": normalization.std}
    if isinstance(manifest, TrainedManifest) and (size := manifest.training.size):
        settings["input_size"] = (COLOURS, size, size)
    return settings


def warning(manifest: AnyManifest) -> str:
    """Return a warning for users of random or unproven weights, "" if they are neither."""
    if isinstance(manifest, TrainedManifest):
        return ""  # their quality is what the training run measured
    if is_random(manifest):
        return "the weights are random numbers"
    if manifest.parity.proven:
        return ""
    if manifest.narrowing is not None and manifest.narrowing.before.proven:
        dtype = manifest.narrowing.dtype
        return f"the weights were proven before rounding to {dtype}; the rounded weights are not proven"
    return "the weights are unproven"


def model_of(path: Path, manifest: AnyManifest) -> Model:
    """Return the model that the manifest and the tensors agree on, with the config of the file.

    The file must begin with the header that we write; other kinds of files and other names than
    PyTorch's are refused.

    Raises:
        ArtifactError: if the manifest and the file disagree.
        CatalogError: if the manifest's model is unknown.
        CheckpointError: if the file cannot be read.
    """
    named_model = catalog.find(manifest.model)
    if named_model.name != manifest.model:
        raise ArtifactError(
            f"{path}: model in its manifest: expected {named_model.name}, found its alias {manifest.model}"
        )
    arrays = arrays_of(path, manifest)
    matches = detection.match_torch(arrays)
    for model in matches:
        if model.name == named_model.name:
            matching.complete(model.mapping, arrays, model.shapes, str(path))
            _require_layers(path, manifest, model)
            return _require_arguments(path, manifest, _require_counts(path, manifest, model))
    others = " or ".join(model.name for model in matches) or "no model"
    raise ArtifactError(f"{path}: its manifest names {named_model.name}, but its tensors match {others}")


def arrays_of(path: Path, manifest: AnyManifest) -> Arrays:
    """Return the arrays in a file's header, which must be the one that we write; read nothing else.

    Raises:
        ArtifactError: if the file is of another kind, has another header, or other numbers and types of
            tensors than the manifest.
        CheckpointError: if the file cannot be read.
    """
    kind = detect.kind(path)
    if kind is not Kind.safetensors:
        raise ArtifactError(f"{path}: expected a converted .safetensors, found {kind}")
    arrays = checkpoint.read(path)
    header, _ = artifact.layout(arrays)
    with path.open("rb") as stream:
        if stream.read(len(header)) != header:
            raise ArtifactError(f"{path}: its header is not the canonical one for its tensors")
    dtypes = {str(array.dtype) for array in arrays.values() if array.shape}
    if (len(arrays), dtypes) != (manifest.artifact.tensors, set(manifest.artifact.dtypes)):
        raise ArtifactError(f"{path}: its tensors are not those in its manifest")
    return arrays


def require_named(path: Path, manifest: Manifest) -> None:
    """Check that a file has the tensors of the module of a graph, by the names in its manifest.

    Raises:
        ArtifactError: if it has others.
        CheckpointError: if it cannot be read.
    """
    arrays = arrays_of(path, manifest)
    parameters = sum(array.size for array in arrays.values())
    others = {*manifest.target.others} if manifest.target else set()
    if (
        arrays.keys() != {names.target for names in manifest.names} | others
        or parameters != manifest.artifact.parameters
    ):
        raise ArtifactError(f"{path}: its tensors are not those in its manifest")


def _require_layers(path: Path, manifest: AnyManifest, model: Model) -> None:
    """Refuse a proof for other layers than the model's.

    Raises:
        ArtifactError: if a check has another number of layers or names an unknown one.
    """
    if isinstance(manifest, TrainedManifest):
        return
    layers = {layer.source for layer in model.mapping.layers}
    for check in manifest.parity.checks if manifest.parity.proven else ():
        if check.layers != len(layers) or check.worst.layer not in layers:
            raise ArtifactError(f"{path}: the layers in its proof are not those of {model.name}")


def _require_counts(path: Path, manifest: AnyManifest, model: Model) -> Model:
    """Return the model if its numbers of parameters and classes are those in the manifest.

    Raises:
        ArtifactError: if a number differs.
    """
    classes = model.config.num_classes
    if manifest.artifact.parameters != model.parameters:
        raise ArtifactError(f"{path}: its number of parameters is not the one in its manifest")
    if manifest.labels is not None and len(manifest.labels) != classes:
        raise ArtifactError(
            f"{path}: its manifest lists {len(manifest.labels)} class names, its head has {classes} classes"
        )
    if isinstance(manifest, TrainedManifest) and manifest.training.classes != classes:
        raise ArtifactError(
            f"{path}: its manifest says {manifest.training.classes} classes, its head has {classes}"
        )
    return model


def _require_arguments(path: Path, manifest: AnyManifest, model: Model) -> Model:
    """Return the model with the output stride in the manifest, if its other arguments are those in there.

    Raises:
        ArtifactError: if an argument differs, or if the model cannot have the output stride.
    """
    model = with_recorded_stride(model, manifest)
    recorded = msgspec.to_builtins(manifest.model_args) or {}
    if recorded != model.arguments:
        raise ArtifactError(
            f"{path}: model arguments in its manifest: expected {model.arguments}, found {recorded}"
        )
    return model
