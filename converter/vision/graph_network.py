"""Find out what the network of a converted graph computes, and from which images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.choices import Backend, PredictionTask
from converter.errors import ClassifierError
from converter.exports import onnx_cache
from converter.exports.onnx_cache import CacheRequest
from converter.parity.graph_sizes import IMAGE
from converter.parity.options import DEFAULT_SIZES
from converter.progress import silent
from converter.vision import classifier, detector_heads, gluoncv_inputs, network_probe, placement
from converter.vision.network_probe import COLOURS, USUAL_SIZES, NetworkProbe
from resnext_torch.data_config import IMAGENET

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.choices import Device
    from converter.dtypes import Array
    from converter.exports.onnx_network import OnnxNetwork
    from converter.graphs.operators.code import Shape
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.manifests.schema import Manifest
    from converter.progress import Progress
    from converter.vision.gluoncv_inputs import EvaluationInput
    from converter.vision.placement import Normalization, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNetwork:
    """The network of a converted graph, in inference mode on its device, for one image at a time.

    Attributes:
        file: the file of the weights.
        weights: its content.
        module: the network, or an export of it.
        device: its device.
        task: what it computes.
        size: height and width of its input.
        channels_last: whether the graph takes images as (n, h, w, 3) and normalizes them.
        normalization: the normalization of the images before they are an input.
        crop_pct: of a classification, the fraction of the resized image's short side that the crop keeps.
        suppresses: whether it selects boxes by non-maximum suppression.
        classes: the number of classes, None for a detector.
        widths: of a detector, the output channels of the last convolutions.
    """

    file: Path
    weights: ConvertedWeights
    module: nn.Module | OnnxNetwork
    device: str
    task: PredictionTask
    size: Size
    channels_last: bool
    normalization: Normalization
    crop_pct: float
    suppresses: bool
    classes: int | None
    widths: list[int]

    def fits(self, classes: int) -> bool:
        """Return whether the network can have a number of classes."""
        return classes == self.classes or detector_heads.fits(classes, self.widths)

    @property
    def shape(self) -> Shape:
        """The shape of its input."""
        return (1, *self.size, COLOURS) if self.channels_last else (1, COLOURS, *self.size)

    def run(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for an image, on the CPU.

        Shape:
            image: (1, 3, *size)

        Raises:
            ClassifierError: if an output is not finite.
        """
        outputs = network_probe.outputs(
            self.module, network_probe.arranged(image, self.channels_last).to(self.device)
        )
        if not all(bool(output.isfinite().all()) for output in outputs):
            raise ClassifierError(f"{self.file}: the outputs of the network are not finite")
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModule:
    """A module with the weights, in float32, in inference mode and on the CPU.

    Attributes:
        network: the module.
        definition: what determines it, apart from the weights.
        suppresses: whether it selects boxes by non-maximum suppression.
    """

    network: nn.Module
    definition: str
    suppresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNetworkOptions:
    """How to run the network of a converted graph.

    Attributes:
        device: the device.
        task: what it computes, None to detect it.
        size: height and width of its input, None for those of GluonCV's network or of the graph, else usual
            ones.
        backend: the library that runs it.
    """

    device: Device
    task: PredictionTask | None = None
    size: Size | None = None
    backend: Backend = Backend.torch


def describe(
    path: Path,
    weights: ConvertedWeights,
    module: BuiltModule,
    options: GraphNetworkOptions,
    progress: Progress = silent,
) -> GraphNetwork:
    """Find out what a module computes from which images, and move it to its device or export it.

    Args:
        path: the file of the weights.
        weights: its content.
        module: the network.
        options: how to run it.
        progress: receives the progress of an export.

    Raises:
        ClassifierError: if it does not take one image, or if its task is not supported.
        ExportError: if onnxruntime is to run it and cannot.
    """
    evaluation, proof = _evaluation(weights.manifest), _proof_shape(weights.manifest)
    shape = evaluation.shape if evaluation else proof
    _require_image(path, weights.manifest, shape)
    channels_last = shape is not None and shape[1] != COLOURS
    device = classifier.torch_device(options.device, options.backend)
    probe = NetworkProbe(path=path, weights=weights, module=module.network, channels_last=channels_last)
    task, size, shapes = _task_and_size(
        probe,
        options,
        size=options.size or (probe.size(evaluation.shape) if evaluation else None),
        proof=probe.size(proof) if proof else None,
    )
    is_detector = task is PredictionTask.detection
    normalization = evaluation.normalization if evaluation else placement.NORMALIZED
    widths = detector_heads.last_widths(module.network, probe.blank(size)) if is_detector else []
    if options.backend is Backend.onnxruntime:
        request = CacheRequest(
            name=weights.manifest.model,
            weights=path,
            definition=module.definition,
            image=_image(size, channels_last=channels_last),
            build=lambda: module.network,
        )
        network: nn.Module | OnnxNetwork = onnx_cache.provide(request, progress)
    else:
        network = module.network.to(device)
    return GraphNetwork(
        file=path,
        weights=weights,
        module=network,
        device=device,
        task=task,
        size=size,
        channels_last=channels_last,
        normalization=placement.PIXELS if channels_last else normalization,
        crop_pct=evaluation.crop_pct if evaluation else IMAGENET["crop_pct"],
        suppresses=module.suppresses,
        classes=None if is_detector else shapes[0][1],
        widths=widths,
    )


def _image(size: Size, *, channels_last: bool) -> Array:
    """Return a random input; a graph that takes images as (n, h, w, 3) takes values from 0 to 255."""
    generator = np.random.Generator(np.random.PCG64(0))
    if channels_last:
        return generator.uniform(0, 255, (1, *size, COLOURS)).astype(np.float32)
    return generator.standard_normal((1, COLOURS, *size)).astype(np.float32)


def _evaluation(manifest: Manifest) -> EvaluationInput | None:
    """Return the input on which GluonCV evaluates the network, None for the graph of a file."""
    network = manifest.source.network
    return gluoncv_inputs.find(network) if network else None


def _proof_shape(manifest: Manifest) -> Shape | None:
    """Return the shape of the first input in the proof, None without a proof."""
    return next(iter(manifest.input_shapes.values()), None)


def _require_image(path: Path, manifest: Manifest, shape: Shape | None) -> None:
    """Check that a network takes one image with three channels.

    Raises:
        ClassifierError: if it does not.
    """
    names = manifest.source.graph.inputs if manifest.source.graph else None
    if names is not None and len(names) != 1:
        raise ClassifierError(f"{path}: takes {len(names)} inputs, not one image: {', '.join(names)}")
    if shape is not None and (len(shape) != IMAGE or COLOURS not in {shape[1], shape[3]}):
        found = " × ".join(map(str, shape))
        raise ClassifierError(
            f"{path}: takes inputs of {found}; "
            f"expected images with {COLOURS} channels, (n, {COLOURS}, h, w) or (n, h, w, {COLOURS})"
        )


def _task_and_size(
    probe: NetworkProbe, options: GraphNetworkOptions, *, size: Size | None, proof: Size | None
) -> tuple[PredictionTask, Size, list[Shape]]:
    """Return the task, the size of the input and the shapes of the outputs for it.

    Args:
        probe: runs the network.
        options: the requested task.
        size: the only size to use, None to choose one.
        proof: the size in the proof, which is used unless it is the default of proofs.
    """
    chosen, shapes = probe.choose_size(size, proof)
    task = probe.choose_task(options.task, chosen, shapes)
    if size is None and (proof is None or chosen == DEFAULT_SIZES[0]):
        usual = USUAL_SIZES[task]
        if found := probe.shapes(usual, task):
            return task, usual, found
    return task, chosen, shapes
