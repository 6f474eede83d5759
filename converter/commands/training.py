"""Write the manifest of weights from a training run, which every command accepts."""

from __future__ import annotations

import math
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec

from converter import __version__
from converter.commands.arguments import optional_weights, to_weights
from converter.errors import ArtifactError, MappingError, UsageError
from converter.formats import artifact, checkpoint
from converter.manifests import artifact_checks, consistency, converted_file, schema
from converter.manifests.schema import ArtifactRecord, Manifest, ModelArguments, TrainedManifest
from converter.manifests.source_records import PreprocessingRecord
from converter.manifests.training_records import MAX_SIZE, BaseRecord, MetricsRecord, TrainingRecord
from converter.networks import catalog, detection, figures, state_dicts
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model

PACKAGES = ("accelerate", "lightning", "timm", "torch", "torchvision")  # whose versions are recorded
HINT = "name the model"


def record_training(  # noqa: PLR0913 - by keyword
    weights: str | PathLike[str],
    *,
    metrics: Mapping[str, float],
    base: str | PathLike[str] | None,
    model: str | None = None,
    labels: Sequence[str] | None = None,
    size: int | None = None,
) -> Path:
    """Write the manifest of trained weights next to them; one of an earlier epoch is replaced.

    The file is one that ``safetensors.torch.save_file(state_dict, file, metadata={"format": "pt"})`` wrote.

    Args:
        weights: the trained ``.safetensors``, or the folder that contains it alone.
        metrics: what was measured on the validation images: "epoch", "loss", "top1" and "top5" in percent,
            and "images", their number; other keys are ignored.
        base: the weights that the training run began with, or their folder; None if it began from scratch.
            The network keeps the output stride and the normalization of images in their manifest.
        model: name of the model, None to detect it from the tensors.
        labels: the class names, in the order of the logits.
        size: height and width of the images in pixels, None for those of the base or the model.

    Returns:
        The path of the manifest.

    Raises:
        UsageError: if an argument is out of range.
        ArtifactError: if the file is not a canonical ``.safetensors``, has the manifest of a conversion, or
            would lose another ``.json`` of its name.
        CheckpointError: if a file cannot be read, or is missing.
        LabelsError: if the class names are not valid.
        MappingError: if the tensors are not those of the model, or of the base's model, or not finite.
        StorageError: if the manifest cannot be written.
    """
    if isinstance(labels, str):
        raise UsageError(f"`labels`: expected a list of names, found {labels!r}", "labels")
    path, base_path = to_weights(weights), optional_weights(base)
    destination = path.with_suffix(artifact_checks.MANIFEST)
    _require_no_loss(path, destination)
    arrays = checkpoint.read(path)
    network = _network(path, arrays, model)
    state_dicts.to_gluon(network, arrays, str(path))  # checks the values
    entry, base_record, base_manifest = _artifact(path, arrays, network), None, None
    if base_path is not None:
        disk.require_other(path, [base_path])
        base_manifest = converted_file.find_manifest(base_path)
        base_record = _base(base_path, base_manifest, network)
        if base_record.sha256 == entry.sha256:
            raise ArtifactError(f"{path}: the weights of the base; nothing was trained")
        network = converted_file.with_recorded_stride(network, base_manifest)
    manifest = TrainedManifest(
        kind="trained",
        model=network.name,
        artifact=entry,
        training=TrainingRecord(
            base=base_record,
            classes=network.config.num_classes,
            metrics=_metrics(metrics),
            versions={name: metadata.version(name) for name in PACKAGES if name in sys.modules},
            **_images(network, base_manifest, size),
        ),
        version=__version__,
        labels=tuple(labels) if labels else None,
        model_args=msgspec.convert(network.arguments, ModelArguments) if network.arguments else None,
        schema_version=schema.VERSION,
    )
    consistency.require_consistent(destination, manifest)
    converted_file.model_of(path, manifest)
    with disk.temporary(path.parent) as part, disk.writing(destination):
        part.write_bytes(schema.encode(manifest))
        disk.place(part, destination, overwrite=True)
    return destination


def _require_no_loss(path: Path, destination: Path) -> None:
    """Refuse to replace anything but the manifest of a training run.

    Raises:
        ArtifactError: if the weights are those of a conversion, or the file is another one.
    """
    if isinstance(converted_file.find_manifest(path), Manifest):
        raise ArtifactError(
            f"{path}: weights of a conversion, whose manifest would be lost; save trained ones elsewhere"
        )
    if not destination.exists():
        return
    try:
        recorded, _ = schema.read_any(destination)
    except ArtifactError as error:
        raise ArtifactError(f"{destination}: not a manifest, and would be lost; move it") from error
    if not isinstance(recorded, TrainedManifest):
        raise ArtifactError(f"{destination}: the manifest of a conversion, which would be lost; move it")


def _network(path: Path, arrays: Arrays, name: str | None) -> Model:
    """Return the model of trained tensors, with their number of classes.

    Raises:
        MappingError: if they are those of another model, or have no head.
    """
    matches = detection.match_torch(arrays)
    if name is None:
        network = detection.require_one(matches, arrays.values(), str(path), hint=HINT)
    else:
        expected = catalog.find(name).name
        by_name = {match.name: match for match in matches}
        if expected not in by_name:
            others = " or ".join(by_name) or "no model"
            raise MappingError(f"{path}: expected the tensors of {expected}, found those of {others}")
        network = by_name[expected]
    if not network.config.num_classes:
        raise MappingError(f"{path}: {network.name} without a head; a trained network has classes")
    return network


def _artifact(path: Path, arrays: Arrays, network: Model) -> ArtifactRecord:
    size, sha256 = converted_file.size_and_sha256(path)
    dtypes = dict.fromkeys(
        str(arrays[name].dtype) for name in artifact.layout(arrays)[1] if arrays[name].shape
    )
    return ArtifactRecord(
        file=disk.file_name(path),
        sha256=sha256,
        bytes=size,
        dtypes=tuple(dtypes),
        tensors=len(arrays),
        parameters=network.parameters,
    )


def _base(path: Path, manifest: AnyManifest | None, network: Model) -> BaseRecord:
    """Return what the manifest of the base says, or without one that nothing is known about it.

    Raises:
        MappingError: if it is another model.
    """
    if manifest is None:
        names = [match.name for match in detection.match_torch(state_dicts.read(path, None).arrays)]
    else:
        names = [manifest.model]
    if network.name not in names:
        others = " or ".join(names) or "no model"
        raise MappingError(f"{path}: expected the base of {network.name}, found weights of {others}")
    conversion = manifest if isinstance(manifest, Manifest) else None
    if manifest is not None:
        consistency.require_consistent(path, manifest)
    random = conversion is not None and converted_file.is_random(conversion)
    return BaseRecord(
        model=network.name,
        file=disk.file_name(path),
        sha256=disk.sha256(path),
        source_sha1=conversion.source.sha1 if conversion else None,
        official=conversion is not None
        and conversion.source.official
        and conversion.narrowing is None
        and not random,
        proven=conversion is not None and conversion.parity.proven,
        random=random,
        trained=isinstance(manifest, TrainedManifest),
    )


def _metrics(metrics: Mapping[str, float]) -> MetricsRecord:
    """Return the metrics of a training run.

    Raises:
        UsageError: if one is missing or impossible.
    """
    names = [name for name in MetricsRecord.__struct_fields__ if name in metrics]
    try:
        return msgspec.convert({name: _number(name, metrics[name]) for name in names}, MetricsRecord)
    except msgspec.ValidationError as error:
        reason = re.sub(r"(.*) - at `\$\.(\w+)`", r"\2: \1", str(error))
        raise UsageError(f"`metrics`: {reason}", "metrics") from error


def _number(name: str, value: Any) -> Any:  # noqa: ANN401 - a number, an array or a tensor with one
    """Return a metric as a Python number, an integer if it is one.

    Raises:
        UsageError: if it is an array or a tensor of several numbers, or of none.
    """
    if (count := math.prod(getattr(value, "shape", ()))) != 1:
        raise UsageError(f"`metrics`: {name}: expected one number, found {count}", "metrics")
    plain = value.item() if hasattr(value, "item") else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _images(network: Model, base: AnyManifest | None, size: int | None) -> dict[str, Any]:
    """Return the normalization and the size of images that are not the model's defaults.

    Raises:
        UsageError: if the size is not one of an image.
    """
    recorded = converted_file.recorded_input(base)
    default = figures.preprocessing(network)["input_size"]
    recorded_size = recorded.get("input_size")
    pixels = (recorded_size or default)[1] if size is None else size
    if not 0 < pixels <= MAX_SIZE:
        raise UsageError(f"`size`: expected 1 to {MAX_SIZE} pixels, found {size}", "size")
    result: dict[str, Any] = {} if pixels == default[1] else {"size": pixels}
    if "mean" in recorded and "std" in recorded:
        result["preprocessing"] = PreprocessingRecord(mean=recorded["mean"], std=recorded["std"])
    return result
