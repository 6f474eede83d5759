"""Summarize a network: the output, the parameters and the cost of every layer, without its weights."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.networks import catalog, figures
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from converter.networks.catalog import ConfigChanges, Model

TRAINED = {"weight", "bias"}  # the roles of trainable tensors in PyTorch


class LayerSummary(Struct, frozen=True, kw_only=True):
    """A layer.

    Attributes:
        name: PyTorch's name.
        source: Gluon's name.
        kind: kind of layer; the output of a block is that after its shortcut.
        shape: shape of the output for one image, without the batch.
        parameters: number of trainable scalars.
        multiply_adds: multiply-adds for one image; 0 if its kind is not counted.
    """

    name: str
    source: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


class NetworkSummary(Struct, frozen=True, kw_only=True):
    """A network and its layers.

    Attributes:
        model: name of the model.
        description: its hyper-parameters, in one line.
        input: shape of an image, (channels, height, width).
        layers: the layers, in the order of the network.
        parameters: number of trainable scalars.
        multiply_adds: multiply-adds for one image.
        activations: number of output elements of the counted layers.
        convention: what is counted.
    """

    model: str
    description: str
    input: tuple[int, ...]
    layers: tuple[LayerSummary, ...]
    parameters: int
    multiply_adds: int
    activations: int
    convention: str


def summary(
    model: str,
    *,
    size: int | tuple[int, int] | None = None,
    backbone: bool = False,
    output_stride: int | None = None,
) -> NetworkSummary:
    """Return the layers of a model with their output shapes, parameters and multiply-adds.

    The figures are computed from the model's hyper-parameters; nothing is downloaded or run.

    Args:
        model: the model's name.
        size: (height, width) of the image or one number for both; by default the model's input size.
        backbone: whether to leave out the head.
        output_stride: 8 or 16 for a dilated network.

    Raises:
        CatalogError: if there is no such model.
        UsageError: if the size or the output stride is not valid.
    """
    changes: ConfigChanges = {"num_classes": 0} if backbone else {}
    if output_stride is not None:
        changes["output_stride"] = output_stride
    network = catalog.find(model).with_config(**changes)
    channels, *default = figures.preprocessing(network)["input_size"]
    height, width = default if size is None else ParityOptions(sizes=[size]).probes[0].size
    return _summarize(network, (channels, height, width))


def _summarize(network: Model, image: tuple[int, int, int]) -> NetworkSummary:
    costs = figures.layer_costs(network, image)
    shapes, parameters = network.shapes, Counter[str]()
    for tensor in network.mapping.tensors:
        if tensor.target_role in TRAINED:
            parameters[tensor.layer.target] += math.prod(shapes[tensor.target])
    layers = tuple(
        LayerSummary(
            name=layer.target,
            source=layer.source,
            kind=layer.kind,
            shape=costs[layer.source].shape,
            parameters=parameters[layer.target],
            multiply_adds=costs[layer.source].cost.multiply_adds,
        )
        for layer in network.mapping.layers
    )
    return NetworkSummary(
        model=network.name,
        description=str(network),
        input=image,
        layers=layers,
        parameters=network.parameters,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=sum(layer.cost.activations for layer in costs.values()),
        convention=figures.CONVENTION,
    )
