"""Build the network of a converted graph, and find out what it computes from which images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import PredictionTask
from converter.errors import ClassifierError
from converter.formats import precision
from converter.parity import generated_network, graph_sizes
from converter.parity.generated_network import REFUSALS
from converter.parity.graph_sizes import IMAGE
from converter.parity.options import DEFAULT_SIZES
from converter.vision import classifier, detector_heads, placement, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.choices import Device
    from converter.graphs.operators.code import Shape
    from converter.manifests.generated_weights import GeneratedWeights
    from converter.manifests.schema import Manifest
    from converter.vision.placement import Normalization, Size

COLOURS = 3
SUPPRESSION = "box_nms"  # the function of a generated module; CenterNet has none
# Of networks that take any size. Source: crop_size in gluoncv/data/transforms/presets/imagenet.py and
# gluoncv/model_zoo/segbase.py, and data_shape of center_net_resnet18_v1b_voc, dmlc/gluon-cv 56777561.
USUAL_SIZES = {
    PredictionTask.classification: (224, 224),
    PredictionTask.detection: (512, 512),
    PredictionTask.segmentation: (480, 480),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNetwork:
    """The network of a converted graph, in inference mode on its device, for one image at a time.

    Attributes:
        file: the file of the weights.
        weights: its content.
        module: the network.
        device: its device.
        task: what it computes.
        size: height and width of its input.
        channels_last: whether the graph takes images as (n, h, w, 3) and normalizes them.
        suppresses: whether it selects boxes by non-maximum suppression.
        classes: the number of classes, None for a detector.
        widths: of a detector, the output channels of the last convolutions.
    """

    file: Path
    weights: GeneratedWeights
    module: nn.Module
    device: str
    task: PredictionTask
    size: Size
    channels_last: bool
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

    @property
    def normalization(self) -> Normalization:
        """The normalization of the images before they are an input."""
        return placement.PIXELS if self.channels_last else placement.NORMALIZED

    def run(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for an image, on the CPU.

        Shape:
            image: (1, 3, *size)

        Raises:
            ClassifierError: if an output is not finite.
        """
        outputs = _outputs(self.module, _arranged(image, self.channels_last).to(self.device))
        if not all(bool(output.isfinite().all()) for output in outputs):
            raise ClassifierError(f"{self.file}: the outputs of the network are not finite")
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNetworkOptions:
    """How to run the network of a converted graph.

    Attributes:
        device: the device.
        task: what it computes, None to detect it.
        size: height and width of its input, None for those of the graph, else usual ones.
    """

    device: Device
    task: PredictionTask | None = None
    size: Size | None = None


def build(path: Path, weights: GeneratedWeights, source: str, options: GraphNetworkOptions) -> GraphNetwork:
    """Build the network.

    Args:
        path: the file of the weights.
        weights: its content.
        source: the source of the module. It is run, so it must be safe.
        options: how to run it.

    Raises:
        ClassifierError: if it takes no images, or if its task is none of ours.
        MappingError: if the weights do not fit the module.
        SymbolError: if PyTorch refuses the module.
    """
    recorded = _recorded_shape(path, weights.manifest)
    channels_last = recorded is not None and recorded[1] != COLOURS
    device = classifier.torch_device(options.device)
    state = {name: precision.widen(array) for name, array in weights.arrays.items()}
    module = generated_network.build(source, state, "float32")
    probe = _Probe(path=path, weights=weights, module=module, channels_last=channels_last)
    task, size, shapes = probe.choose(options, recorded)
    is_detector = task is PredictionTask.detection
    return GraphNetwork(
        file=path,
        weights=weights,
        module=module.to(device),
        device=device,
        task=task,
        size=size,
        channels_last=channels_last,
        suppresses=SUPPRESSION in generated_network.namespace(source),
        classes=None if is_detector else shapes[0][1],
        widths=detector_heads.last_widths(module, probe.blank(size)) if is_detector else [],
    )


def _recorded_shape(path: Path, manifest: Manifest) -> Shape | None:
    """Return the shape of the images in the proof; None without a proof.

    Raises:
        ClassifierError: if the network takes something else than one image with three colours.
    """
    names = manifest.source.graph.inputs if manifest.source.graph else ()
    if len(names) != 1:
        raise ClassifierError(f"{path}: takes {len(names)} inputs, not one image: {', '.join(names)}")
    shape = next(iter(manifest.input_shapes.values()), None)
    if shape is not None and (len(shape) != IMAGE or COLOURS not in {shape[1], shape[3]}):
        found = " × ".join(map(str, shape))
        raise ClassifierError(f"{path}: takes inputs of {found}, which are no images with {COLOURS} colours")
    return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """A network on the CPU, which is run on blank images to learn the shapes of its outputs."""

    path: Path
    weights: GeneratedWeights
    module: nn.Module
    channels_last: bool

    def choose(
        self, options: GraphNetworkOptions, recorded: Shape | None
    ) -> tuple[PredictionTask, Size, list[Shape]]:
        """Return the task of the network, the size of its input and the shapes of its outputs for it.

        Raises:
            ClassifierError: if it has none, or takes no usual size.
        """
        size, shapes = self._first_size(options.size, recorded)
        task = options.task or tasks.detect(shapes, size)
        if task is None and len(shapes[0]) == IMAGE and options.size is None:
            # Segmentation graphs resize their scores to a fixed size, for images of that size.
            fixed = shapes[0][2], shapes[0][3]
            if (found := self._shapes(fixed)) and tasks.detect(found, fixed):
                task, size, shapes = PredictionTask.segmentation, fixed, found
        if task is None or not tasks.accepts(task, shapes):
            raise self._task_error(options.task, shapes)
        if options.size is None and (recorded is None or size == DEFAULT_SIZES[0]):
            usual = USUAL_SIZES[task]
            found = self._shapes(usual)
            if found and (task is not PredictionTask.segmentation or found[0][2:] == usual):
                size, shapes = usual, found
        return task, size, shapes

    def _first_size(self, size: Size | None, recorded: Shape | None) -> tuple[Size, list[Shape]]:
        """Return the first size that the network takes, and the shapes of its outputs."""
        sizes = [size] if size else [*USUAL_SIZES.values(), *graph_sizes.USUAL_SIZES]
        if recorded and not size:
            height, width = recorded[1:3] if self.channels_last else recorded[2:]
            sizes = [(height, width)]
        for each in sizes:
            if shapes := self._shapes(each):
                return each, shapes
        tried = f"{sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else "usual sizes"
        raise ClassifierError(
            f"{self.path}: the network does not take images of {tried}\n  try         --size HxW"
        )

    def _shapes(self, size: Size) -> list[Shape] | None:
        """Return the shapes of the outputs for a blank image, None if the network refuses its size."""
        try:
            outputs = _outputs(self.module, self.blank(size))
        except REFUSALS:
            return None
        return [tuple(output.shape) for output in outputs]

    def blank(self, size: Size) -> Tensor:
        """Return a blank image as an input."""
        import torch  # noqa: PLC0415 - takes more than a second

        return _arranged(torch.zeros(1, COLOURS, *size), self.channels_last)

    def _task_error(self, task: PredictionTask | None, shapes: list[Shape]) -> ClassifierError:
        found = ", ".join("×".join(map(str, shape)) for shape in shapes)
        expected = f"those of {task}" if task else "those of a classification, detection or segmentation"
        return ClassifierError(
            f"{self.path}: its outputs are not {expected}\n"
            f"  found       {found}\n"
            f"  file        {self.weights.describe(self.path)}"
        )


def _arranged(image: Tensor, channels_last: bool) -> Tensor:
    """Return an image in the order of axes that the network takes.

    Shape:
        (1, 3, h, w) → (1, h, w, 3) if ``channels_last``
    """
    return image.permute(0, 2, 3, 1) if channels_last else image


def _outputs(module: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs for an input, on the CPU."""
    import torch  # noqa: PLC0415 - as above

    with torch.inference_mode():
        result = module(image)
    return tuple(each.cpu() for each in (result if isinstance(result, tuple) else (result,)))
