"""Compute a network's cost and input settings, kept separate from the figures GluonCV published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from converter.formats import artifact
from converter.graphs import operators
from converter.networks.definition import GluonNetwork
from converter.networks.published_figures import IMAGENET, PUBLISHER
from resnext_torch import resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.graph import Operation
    from converter.networks.catalog import Model
    from resnext_torch import DataConfig
    from resnext_torch.config import Shape

SOURCE = f"{PUBLISHER}, {IMAGENET}"
SOURCE_URL = "https://cv.gluon.ai/model_zoo/classification.html"
CONVENTION = "convolutions and the dense layer only; a multiply-add counts as one"
FLOPS_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one image.

    Attributes:
        multiply_adds: of the convolutions and the dense layer.
        activations: the number of output elements of these layers, as timm counts them.
    """

    multiply_adds: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations; a multiply-add is two."""
        return FLOPS_PER_MULTIPLY_ADD * self.multiply_adds


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The output of a layer for one image, (channels, height, width) or (classes,), and its cost."""

    shape: Shape
    cost: Cost


def preprocessing(model: Model) -> DataConfig:
    """Return the preprocessing settings of a model's input."""
    return resolve_data_config(model.config)


def cost(model: Model, input_size: tuple[int, int, int] | None = None) -> Cost:
    """Return the cost of one image, by default of the model's size, from the shapes in its definition."""
    size = input_size or preprocessing(model)["input_size"]
    costs = [layer.cost for layer in layer_costs(model, size).values()]
    return Cost(sum(each.multiply_adds for each in costs), sum(each.activations for each in costs))


def layer_costs(model: Model, input_size: Shape) -> dict[str, LayerCost]:
    """Return the output and the cost of every layer for one image, by Gluon's name.

    Shape:
        ``input_size``: (channels, height, width)
    """
    counter = _Counter(model.source_shapes)
    network = GluonNetwork(counter.shapes, counter, model.config.output_stride)
    return {
        layer.layer: LayerCost(layer.value, counter.costs.get(layer.layer, Cost(0, 0)))
        for layer in network.run(input_size)
    }


class _Counter:
    """Applies operations to image shapes, (channels, height, width), and counts the cost of each layer."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.costs: dict[str, Cost] = {}

    def apply(self, operation: Operation, inputs: tuple[Shape, ...], layer: str) -> Shape:
        """Return the shape of an operation's output."""
        channels, *size = inputs[0]
        if operation.kind == operators.POOLING:
            size = [1, 1] if operation.settings["global"] else [_size(side, operation) for side in size]
        elif operation.roles[:1] == ("weight",):
            weight = self.shapes[f"{layer}.weight"]
            channels, size = weight[0], [_size(side, operation) for side in size[: len(weight) - 2]]
            self.costs[layer] = Cost(math.prod((*weight, *size)), math.prod((channels, *size)))
        return (channels, *size)


def _size(side: int, operation: Operation) -> int:
    """Return the output height or width of a convolution or pool."""
    settings: dict[str, Any] = operation.settings
    span = settings.get("dilation", 1) * (settings["kernel"] - 1) + 1
    free, stride = side + 2 * settings["padding"] - span, settings["stride"]
    steps: int = -(-free // stride) if settings.get("ceil_mode") else free // stride
    return steps + 1


def file_bytes(model: Model) -> int:
    """Return the size of the model's float32 file in bytes, header included."""
    counters = set(model.mapping.target_only)
    state = {
        name: np.broadcast_to(np.zeros((), np.int64 if name in counters else np.float32), shape)
        for name, shape in model.shapes.items()
    }
    header, _ = artifact.layout(state)
    return len(header) + sum(array.nbytes for array in state.values())


class ComputedRecord(Struct, frozen=True, kw_only=True):
    """Figures of one image of the model's input size.

    Attributes:
        parameters: number of trainable scalars.
        multiply_adds: multiply-adds.
        activations: number of output elements of the counted layers.
        file_bytes: size of the converted file in float32.
        convention: what is counted.
    """

    parameters: int
    multiply_adds: int
    activations: int
    file_bytes: int
    convention: str


class InputRecord(Struct, frozen=True, kw_only=True):
    """The input of a model: (channels, height, width), and how an image is cropped and resized."""

    size: tuple[int, int, int]
    crop_pct: float
    interpolation: str


def computed(model: Model) -> ComputedRecord:
    """Return the computed figures of a model."""
    total = cost(model)
    return ComputedRecord(
        parameters=model.parameters,
        multiply_adds=total.multiply_adds,
        activations=total.activations,
        file_bytes=file_bytes(model),
        convention=CONVENTION,
    )


def input_record(model: Model) -> InputRecord:
    """Return the input of a model."""
    settings = preprocessing(model)
    return InputRecord(
        size=settings["input_size"],
        crop_pct=settings["crop_pct"],
        interpolation=settings["interpolation"],
    )
