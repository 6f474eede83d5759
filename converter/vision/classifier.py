"""A file of weights as what tells images apart: network, preprocessing, and what its classes are called."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.choices import Device, Preprocessing
from converter.errors import CheckpointError, ClassifierError
from converter.formats import checkpoint
from converter.formats import labels as label_files
from converter.formats.checkpoint import Kind
from converter.manifests import schema
from converter.networks import detection
from converter.parity import execution
from converter.vision import images
from resnext_torch import resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from converter.manifests.schema import ManifestSummary
    from converter.networks.catalog import Model

PUBLISHED = "model.safetensors"  # in a folder as the Hugging Face hub has it
TUNED = "labels.txt"  # which examples/finetune.py leaves beside the weights
ENDINGS = (".safetensors", ".pth")
IMAGENET_CLASSES = 1000
QUESTION = "which of them is meant cannot be told"


NEEDED = {Preprocessing.bicubic: ("PIL", "torchvision"), Preprocessing.gluon: ("PIL", "cv2")}


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """Which weights, how an image is prepared, and where it all runs."""

    weights: Path
    preprocessing: Preprocessing = Preprocessing.bicubic
    device: Device = Device.auto
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network ready to be used.

    ``labels``: of its classes, where the manifest has them. ``warning``: what the manifest says against the
    weights, "" if nothing.
    """

    file: Path
    model: Model
    module: nn.Module
    device: str
    transform: Callable[[Any], Tensor]
    labels: tuple[str, ...] = ()
    official: bool = False
    warning: str = ""

    def probabilities(self, batch: Tensor) -> Tensor:
        """Return the probabilities of the classes; of a single logit, that of its class.

        Shape: (n, 3, h, w) → (n, classes).

        Raises:
            ClassifierError: if the logits are not finite.
        """
        logits = self.logits(batch)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)

    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits of inputs, (n, 3, h, w) → (n, classes), on the CPU.

        Errors: ``ClassifierError`` where they are not finite.
        """
        import torch  # noqa: PLC0415 - takes more than a second

        with torch.inference_mode():
            found: Tensor = self.module(batch.to(self.device)).cpu()
        if not bool(found.isfinite().all()):
            raise ClassifierError(f"{self.file}: the network gives logits that are not finite")
        return found


def load(terms: ClassifierOptions) -> Classifier:
    """Read the weights and build the network that they are of, in float32.

    Errors: ``ClassifierError``, ``ImageError`` where what prepares images is not installed, and those of
    ``checkpoint.read`` and ``identification.only``.
    """
    from resnext_torch import create_transform  # noqa: PLC0415 - imports torch

    images.require(*NEEDED[terms.preprocessing])
    device = _device(terms.device)
    path = find(terms.weights)
    if checkpoint.kind(path) in {Kind.params, Kind.packed}:
        raise CheckpointError(f"{path}: Gluon's parameters; first gluon2torch convert auto OUT --params FILE")
    state = checkpoint.read(path)
    model = detection.require_one(detection.match_torch(state), state.values(), str(path), question=QUESTION)
    counters = {name: np.zeros((), np.int64) for name in model.mapping.target_only}
    module = execution.build({**counters, **state}, model.config).float().eval().to(device)
    transform = create_transform(terms.preprocessing.value, **resolve_data_config(model.config))
    manifest = schema.read_summary(path)
    labels = _labels(path, manifest, model)
    return Classifier(
        path,
        model,
        module,
        device,
        transform,
        labels,
        official=bool(manifest and manifest.source.official),
        warning=_warning(path, manifest, model),
    )


def _warning(path: Path, manifest: ManifestSummary | None, model: Model) -> str:
    """Return what speaks against weights: their manifest, or else their name."""
    if manifest is not None:
        return manifest.warning
    return "the weights are random numbers" if path.name.startswith(model.name + schema.RANDOM) else ""


def find(place: Path) -> Path:
    """Return the file of weights that is meant: the place itself, or the one in that folder.

    Errors: ``CheckpointError`` where there is none, or more than one.
    """
    if not place.is_dir():
        return place
    if (place / PUBLISHED).is_file():
        return place / PUBLISHED
    inside = sorted(path for path in place.iterdir() if path.suffix in ENDINGS)
    found = [path for path in inside if path.suffix == ENDINGS[0]] or inside  # a .pth beside is the same
    if len(found) != 1:
        known = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(f"{place}: one file of weights expected, {' or '.join(ENDINGS)}; {known} found")
    return found[0]


def names(classifier: Classifier) -> tuple[str, ...]:
    """Return the names of the classes: the manifest's, ImageNet's where there are 1000, or numbers."""
    count = classifier.model.config.num_classes
    if classifier.labels:
        return classifier.labels
    if count == IMAGENET_CLASSES:
        try:
            from torchvision.models import ResNet50_Weights  # noqa: PLC0415 - GluonCV's way does without
        except ImportError:
            pass
        else:
            return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
    return tuple(map(str, range(count)))


def _labels(path: Path, manifest: ManifestSummary | None, model: Model) -> tuple[str, ...]:
    """Return the classes' names: the manifest's, or those that fine-tuning left beside, or none."""
    classes = model.config.num_classes
    found = tuple(manifest.labels or ()) if manifest else ()
    left = path.with_name(TUNED)
    if not found and left.is_file():
        found = label_files.read(left, classes)
    if found and len(found) != classes:
        raise CheckpointError(f"{path}: {classes} classes; its manifest names {len(found)}")
    return found


def _device(chosen: Device) -> str:
    """Return torch's name of the device; of several GPUs each process of torchrun's takes its own."""
    import torch  # noqa: PLC0415 - as in Classifier.logits

    available = torch.cuda.is_available()
    if chosen is Device.cuda and not available:
        raise ClassifierError("--device cuda: torch sees no GPU here")
    if chosen is Device.cpu or not available:
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
