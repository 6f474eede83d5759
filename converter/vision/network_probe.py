"""Run a network on blank images, to learn which size it takes and what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import PredictionTask
from converter.errors import ClassifierError
from converter.parity import graph_sizes
from converter.parity.generated_network import REFUSALS
from converter.parity.graph_sizes import IMAGE
from converter.vision import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.exports.onnx_network import OnnxNetwork
    from converter.graphs.operators.code import Shape
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.vision.placement import Size

COLOURS = 3
# Of networks that take any size. Source: crop_size in gluoncv/data/transforms/presets/imagenet.py and
# gluoncv/model_zoo/segbase.py, and data_shape of center_net_resnet18_v1b_voc, dmlc/gluon-cv 56777561.
USUAL_SIZES = {
    PredictionTask.classification: (224, 224),
    PredictionTask.detection: (512, 512),
    PredictionTask.segmentation: (480, 480),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProbe:
    """A network on the CPU, which is run on blank images.

    Attributes:
        path: the file of the weights.
        weights: its content.
        module: the network.
        channels_last: whether it takes images as (n, h, w, 3).
    """

    path: Path
    weights: ConvertedWeights
    module: nn.Module
    channels_last: bool

    def size(self, shape: Shape) -> Size:
        """Return height and width of an input."""
        height, width = shape[1:3] if self.channels_last else shape[2:]
        return height, width

    def choose_size(self, size: Size | None, proof: Size | None) -> tuple[Size, list[Shape]]:
        """Return a size that the network takes, and the shapes of its outputs for it.

        Args:
            size: the only size to try, None to choose one.
            proof: the size in the proof, which is tried instead of usual ones.

        Raises:
            ClassifierError: if it takes none of them.
        """
        chosen, shapes = self._first_size(size or proof)
        if size is None and len(shapes[0]) == IMAGE and tasks.detect(shapes, chosen) is None:
            # Segmentation graphs resize their scores to a fixed size, for images of that size.
            fixed = shapes[0][2], shapes[0][3]
            if (found := self.shapes(fixed)) and tasks.detect(found, fixed):
                return fixed, found
        return chosen, shapes

    def _first_size(self, size: Size | None) -> tuple[Size, list[Shape]]:
        """Return a size, or the first usual one that the network takes, and the shapes of its outputs."""
        sizes = [size] if size else [*USUAL_SIZES.values(), *graph_sizes.USUAL_SIZES]
        for each in sizes:
            if shapes := self.shapes(each):
                return each, shapes
        tried = f"{size[0]}x{size[1]}" if size else "usual sizes"
        raise ClassifierError(
            f"{self.path}: the network does not take images of {tried}\n  try         --size HxW"
        )

    def choose_task(self, task: PredictionTask | None, size: Size, shapes: list[Shape]) -> PredictionTask:
        """Return the requested task, or the one that the outputs show.

        Args:
            task: the requested task, None to detect it.
            size: height and width of the input.
            shapes: the shapes of the outputs for it.

        Raises:
            ClassifierError: if the outputs are not those of the task, or of any.
        """
        chosen = task or tasks.detect(shapes, size)
        if chosen is None or not tasks.accepts(chosen, shapes):
            found = ", ".join("×".join(map(str, shape)) for shape in shapes)
            expected = f"those of {task}" if task else "those of a classification, detection or segmentation"
            raise ClassifierError(
                f"{self.path}: its outputs are not {expected}\n"
                f"  found       {found}\n"
                f"  file        {self.weights.describe(self.path)}"
            )
        return chosen

    def shapes(self, size: Size, task: PredictionTask | None = None) -> list[Shape] | None:
        """Return the shapes of the outputs for a blank image, None if the network refuses its size.

        With the task segmentation, a network whose scores have another size refuses it, too.
        """
        try:
            results = outputs(self.module, self.blank(size))
        except REFUSALS:
            return None
        shapes: list[Shape] = [tuple(result.shape) for result in results]
        return None if task is PredictionTask.segmentation and shapes[0][2:] != size else shapes

    def blank(self, size: Size) -> Tensor:
        """Return a blank image as an input."""
        import torch  # noqa: PLC0415 - takes more than a second

        return arranged(torch.zeros(1, COLOURS, *size), self.channels_last)


def arranged(image: Tensor, channels_last: bool) -> Tensor:
    """Return an image in the order of axes that the network takes.

    Shape:
        (1, 3, h, w) → (1, h, w, 3) if ``channels_last``
    """
    return image.permute(0, 2, 3, 1) if channels_last else image


def outputs(module: nn.Module | OnnxNetwork, image: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs for an input, on the CPU."""
    import torch  # noqa: PLC0415 - as above

    with torch.inference_mode():
        result = module(image)
    return tuple(each.cpu() for each in (result if isinstance(result, tuple) else (result,)))
