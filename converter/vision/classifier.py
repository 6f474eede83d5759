"""Load weights as an image classifier: network, preprocessing and class names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.choices import Backend, Device, Preprocessing
from converter.errors import CheckpointError, ClassifierError, UsageError
from converter.exports import onnx_cache
from converter.exports.onnx_cache import CacheRequest
from converter.formats import detect, onnx_file, torch_package, weights_folder
from converter.formats import labels as label_files
from converter.formats.kinds import GLUON, PACKED
from converter.formats.state_dicts import TOP_LEVEL
from converter.manifests import converted_file, converted_weights, target_weights
from converter.manifests.schema import Manifest
from converter.networks import detection, state_dicts
from converter.parity import execution
from converter.progress import silent
from converter.references.probes import Probe
from converter.storage import disk
from converter.vision import images, network_probe
from resnext_torch import class_names as imagenet
from resnext_torch import resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from converter.exports.onnx_network import OnnxNetwork
    from converter.formats.checkpoint import Checkpoint
    from converter.formats.file_arrays import Arrays
    from converter.formats.state_dicts import Location
    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model
    from converter.progress import Progress

LABELS_FILE = "labels.txt"  # written by examples/finetune.py in the folder of the weights
COLOURS = 3
AMBIGUOUS = "the model is ambiguous"
REQUIRED_MODULES = {Preprocessing.bicubic: ("PIL", "torchvision"), Preprocessing.gluon: ("PIL", "cv2")}


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """The weights, the preprocessing, and the device and batch size of the network.

    Attributes:
        key: key of the state dict in a ``.pth``, None to detect it.
        backend: the library that runs the network.
    """

    weights: Path
    preprocessing: Preprocessing = Preprocessing.bicubic
    device: Device = Device.auto
    batch_size: int = 32
    key: str | None = None
    backend: Backend = Backend.torch


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network with weights, in inference mode on its device.

    Attributes:
        file: the file of the weights.
        module: the network, or an export of it.
        transform: converts an image to an input of the network.
        labels: the class names in the manifest or in labels.txt, empty if neither has them.
        official: whether the manifest says that GluonCV published the weights.
        warning: the reason not to rely on the weights, "" if none is known.
        location: where the weights are in the file.
    """

    file: Path
    model: Model
    module: nn.Module | OnnxNetwork
    device: str
    transform: Callable[[Any], Tensor]
    labels: tuple[str, ...] = ()
    official: bool = False
    warning: str = ""
    location: Location = TOP_LEVEL

    def probabilities(self, batch: Tensor) -> Tensor:
        """Return the class probabilities: the softmax, or for a single logit the sigmoid.

        Shape:
            (n, 3, h, w) → (n, classes)

        Raises:
            ClassifierError: if the logits are not finite.
        """
        logits = self.logits(batch)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)

    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits, on the CPU.

        Shape:
            (n, 3, h, w) → (n, classes)

        Raises:
            ClassifierError: if the logits are not finite.
        """
        (logits,) = network_probe.outputs(self.module, batch.to(self.device))
        if not bool(logits.isfinite().all()):
            raise ClassifierError(f"{self.file}: the logits of the network are not finite")
        return logits


def load(options: ClassifierOptions, progress: Progress = silent) -> Classifier:
    """Read weights and build their network, in float32.

    Raises:
        CheckpointError: if the weights cannot be read or are Gluon parameters.
        ClassifierError: if there is no GPU to run on as requested, or if the network does not classify
            images.
        ExportError: if onnxruntime is to run the network and cannot, or a package for that is missing.
        ImageError: if the packages for the preprocessing are not installed.
        LabelsError: if labels.txt is not a list of the classes.
        MappingError: if the tensors match no model, or more than one.
        SourceError: if an archive cannot be read.
        TorchUnavailableError: if torch is not installed.
        UsageError: if the backend does not run on the device.
    """
    require_backend(options.backend, options.device)
    path = weights_folder.find_weights(options.weights)
    if detect.kind(path) in GLUON | PACKED:
        raise CheckpointError(
            f"{path}: these are Gluon parameters; convert them first:\n"
            f"  gluon2torch convert auto OUT --params {path}"
        )
    if converted := converted_weights.find(path, options.key):
        target_weights.refuse(path, converted.target)
        raise ClassifierError(
            f"{path}: the graph of a generated module does not say how images are preprocessed\n"
            f"  found       {converted.describe(path)}"
        )
    with disk.unchanged(path):
        return _load(path, options, progress)


def _load(path: Path, options: ClassifierOptions, progress: Progress) -> Classifier:
    """Return the classifier of a file."""
    weights = state_dicts.read(path, options.key)
    state = weights.arrays
    model = detection.require_one(detection.match_torch(state), state.values(), str(path), hint=AMBIGUOUS)
    manifest = converted_file.find_manifest(path)
    model = converted_file.with_recorded_stride(model, manifest)
    _require_classifier(path, model)
    torch_package.require_torch("a classifier")
    from resnext_torch import create_transform  # noqa: PLC0415 - imports torch, which takes seconds

    images.require_modules(*REQUIRED_MODULES[options.preprocessing])
    config = resolve_data_config(model.config) | converted_file.recorded_input(manifest)
    transform = create_transform(options.preprocessing.value, **config)
    device = torch_device(options.device, options.backend)
    if options.backend is Backend.onnxruntime:
        request = _cache_request(path, model, weights, config["input_size"])
        module: nn.Module | OnnxNetwork = onnx_cache.provide(request, progress)
    else:
        module = _build(state, model).to(device)
    labels = _labels(path, manifest, model)
    return Classifier(
        path,
        model,
        module,
        device,
        transform,
        labels,
        official=isinstance(manifest, Manifest) and manifest.source.official,
        warning=_warning(path, manifest, model),
        location=weights.location,
    )


def _build(state: Arrays, model: Model) -> nn.Module:
    """Return the network in float32, in evaluation mode."""
    counters = {name: np.zeros((), np.int64) for name in model.mapping.target_only}
    return execution.build({**counters, **state}, model.config).float().eval()


def _cache_request(
    path: Path, model: Model, weights: Checkpoint, input_size: tuple[int, int, int]
) -> CacheRequest:
    channels, *size = input_size
    return CacheRequest(
        name=model.name,
        weights=path,
        definition=repr((model.config, weights.location)),
        image=Probe("float32", (size[0], size[1]), channels=channels).input(),
        build=lambda: _build(weights.arrays, model),
    )


def _require_classifier(path: Path, model: Model) -> None:
    """Refuse a network without a head, and one for other inputs than images.

    Raises:
        ClassifierError: if the network is one of these.
    """
    config = model.config
    call = f'  try         resnext_torch.create_model("{model.name}", "{path}"'
    if not config.num_classes:
        raise ClassifierError(
            f"{path}: has no head, so it predicts no classes\n{call}, features_only=True), for features"
        )
    if config.in_chans != COLOURS:
        raise ClassifierError(
            f"{path}: expects inputs of {config.in_chans} channels, and images have {COLOURS}\n"
            f"{call}), with your own inputs"
        )


def _warning(path: Path, manifest: AnyManifest | None, model: Model) -> str:
    """Return the warning in the weights' manifest; without a manifest the file name decides."""
    if manifest is not None:
        return converted_file.warning(manifest)
    return (
        "the weights are random numbers" if path.name.startswith(model.name + converted_file.RANDOM) else ""
    )


def class_names(classifier: Classifier) -> tuple[str, ...]:
    """Return the class names: the labels, else ImageNet's names for 1000 classes, else numbers."""
    count = classifier.model.config.num_classes
    if classifier.labels:
        return classifier.labels
    if count == imagenet.IMAGENET_CLASSES and (names := imagenet.imagenet()):
        return names
    return tuple(map(str, range(count)))


def _labels(path: Path, manifest: AnyManifest | None, model: Model) -> tuple[str, ...]:
    """Return the class names in the manifest, else those in labels.txt, else none.

    Raises:
        CheckpointError: if the manifest has another number of names than the model has classes.
        LabelsError: if labels.txt is not a list of the classes.
    """
    classes = model.config.num_classes
    labels = tuple(manifest.labels or ()) if manifest else ()
    label_file = path.with_name(LABELS_FILE)
    if not labels and label_file.is_file():
        labels = label_files.read(label_file, classes)
    if labels and len(labels) != classes:
        raise CheckpointError(
            f"{path}: the network has {classes} classes, but its manifest has {len(labels)} class names"
        )
    return labels


def require_backend(backend: Backend, device: Device) -> None:
    """Check, before any work, that a backend can run on a device.

    Raises:
        ExportError: if a package is missing, with the command that installs it.
        UsageError: if it does not run there.
    """
    if backend is Backend.onnxruntime:
        if device is Device.cuda:
            raise UsageError("`device` cuda requires `backend` torch", "device", "backend")
        onnx_file.require_packages(f"--backend {backend}")


def torch_device(device: Device, backend: Backend = Backend.torch) -> str:
    """Return torch's name of the device; under torchrun, each process gets a GPU of its own if possible.

    onnxruntime runs on the CPU.

    Raises:
        ClassifierError: if CUDA is requested and not available.
    """
    if backend is Backend.onnxruntime:
        return "cpu"
    import torch  # noqa: PLC0415 - takes more than a second

    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise ClassifierError("--device cuda: torch finds no GPU")
    if device is Device.cpu or not available:
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
