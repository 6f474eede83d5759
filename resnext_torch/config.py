"""The hyper-parameters of every network, and the shapes that follow from them. Nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Shape = tuple[int, ...]

EXPANSION = 4  # a bottleneck's output has four times the channels of its stage
STAGE_CHANNELS = (64, 128, 256, 512)
STEM_CHANNELS = 64
HEAD = "fc.weight"  # (classes, features)


@dataclass(frozen=True, slots=True)
class Config:
    """A ResNeXt: blocks per stage, cardinality C and bottleneck width d, as in "ResNeXt-50 (32×4d)".

    Source: Xie et al. 2017, table 1.
    """

    depths: tuple[int, int, int, int]
    cardinality: int
    width: int
    num_classes: int = 1000
    bn_eps: float = 1e-5

    def group_width(self, channels: int) -> int:
        """Return the channels of the grouped 3×3 convolution, in a stage of ``channels`` channels."""
        return self.cardinality * (channels * self.width // STAGE_CHANNELS[0])


CONFIGS = {
    "gluon_resnext50_32x4d": Config(depths=(3, 4, 6, 3), cardinality=32, width=4),
    "gluon_resnext101_32x4d": Config(depths=(3, 4, 23, 3), cardinality=32, width=4),
    "gluon_resnext101_64x4d": Config(depths=(3, 4, 23, 3), cardinality=64, width=4),
}


def list_models() -> list[str]:
    """Return the names of the networks."""
    return list(CONFIGS)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One entry of a state dict."""

    name: str
    shape: Shape
    trainable: bool


def state_spec(config: Config) -> tuple[TensorSpec, ...]:
    """Return what ``ResNeXt(config).state_dict()`` holds, in its order, without building the module."""
    return tuple(_network(config))


def parameter_count(config: Config) -> int:
    """Return the number of trainable scalars."""
    return sum(math.prod(spec.shape) for spec in state_spec(config) if spec.trainable)


def _network(config: Config) -> Iterator[TensorSpec]:
    yield from _conv("conv1", STEM_CHANNELS, 3, kernel=7)
    yield from _batch_norm("bn1", STEM_CHANNELS)
    inputs = STEM_CHANNELS
    for stage, (depth, channels) in enumerate(zip(config.depths, STAGE_CHANNELS, strict=True), start=1):
        for block in range(depth):
            yield from _block(f"layer{stage}.{block}", inputs, channels, config, first=block == 0)
            inputs = channels * EXPANSION
    yield TensorSpec("fc.weight", (config.num_classes, inputs), trainable=True)
    yield TensorSpec("fc.bias", (config.num_classes,), trainable=True)


def _block(name: str, inputs: int, channels: int, config: Config, *, first: bool) -> Iterator[TensorSpec]:
    grouped, outputs = config.group_width(channels), channels * EXPANSION
    yield from _conv(f"{name}.conv1", grouped, inputs, kernel=1)
    yield from _batch_norm(f"{name}.bn1", grouped)
    yield from _conv(f"{name}.conv2", grouped, grouped // config.cardinality, kernel=3)
    yield from _batch_norm(f"{name}.bn2", grouped)
    yield from _conv(f"{name}.conv3", outputs, grouped, kernel=1)
    yield from _batch_norm(f"{name}.bn3", outputs)
    if first:
        yield from _conv(f"{name}.downsample.0", outputs, inputs, kernel=1)
        yield from _batch_norm(f"{name}.downsample.1", outputs)


def _conv(name: str, outputs: int, inputs_per_group: int, *, kernel: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (outputs, inputs_per_group, kernel, kernel), trainable=True)


def _batch_norm(name: str, channels: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (channels,), trainable=True)
    yield TensorSpec(f"{name}.bias", (channels,), trainable=True)
    yield TensorSpec(f"{name}.running_mean", (channels,), trainable=False)
    yield TensorSpec(f"{name}.running_var", (channels,), trainable=False)
    yield TensorSpec(f"{name}.num_batches_tracked", (), trainable=False)
