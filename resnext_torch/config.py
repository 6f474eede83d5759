"""The hyper-parameters of all networks, and the tensor shapes that follow from them, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Shape = tuple[int, ...]

STAGE_CHANNELS = (64, 128, 256, 512)
EXPANSIONS = {"basic": 1, "bottleneck": 4}  # output channels of a block per channel of its stage
SQUEEZE = 16  # reduction ratio of squeeze-and-excitation
COLOURS = 3  # the channels of an image
HEAD = "fc.weight"  # (classes, features)
OUTPUT_STRIDES = (8, 16, 32)
CIFAR_STRIDE = 4
POOL_FACTORS = {"avg": 1, "max": 1, "avgmax": 1, "catavgmax": 2, "": 1}  # pooled features per channel


@dataclass(frozen=True, slots=True)
class Config:
    """The hyper-parameters of a residual network.

    A shortcut that changes the shape is a convolution: a projection shortcut.

    Attributes:
        depths: number of blocks in each of the three or four stages.
        cardinality: C in "ResNeXt-50 (C×d)", the number of groups; 1 in a ResNet.
        width: d in "ResNeXt-50 (C×d)", the bottleneck width; 64 in a ResNet.
        block: "basic" for two 3×3 convolutions, "bottleneck" for 1×1, 3×3 and 1×1.
        stem: "7x7" for one 7×7 convolution; "deep" for three 3×3 convolutions with ``stem_width``,
            ``stem_width`` and ``2 * stem_width`` output channels; "small" for one 3×3 without stride.
        stem_width: output channels of the stem's first convolution.
        pool: max pool after the stem: "padded" on all sides, "ceil" without padding and with the output
            size rounded up, or "none".
        narrow: whether the first 1×1 convolution of a block has half the channels of the 3×3.
        squeeze_excite: whether blocks have squeeze-and-excitation.
        shortcut_kernel: kernel size of projection shortcuts with a stride; others have 1.
        shortcut_pool: which projection shortcuts have an average pool before the convolution, with the
            stride in the pool.
        dropout: dropout rate before the head.
        in_chans: channels of the images.
        num_classes: output channels of the head, 0 for a network without a head.
        global_pool: pool of the last stage's output: "avg", "max", "avgmax" for the mean of both,
            "catavgmax" for the two concatenated, or "" for none, in a network without a head.
        output_stride: the image's size divided by that of the last stage's output: 8, 16 or 32; a network
            with a small stem has 4 only. Once it is reached, stages have dilated convolutions instead of a
            stride.
        bn_eps: epsilon of the batch normalizations.

    Sources: Xie et al. 2017, table 1; He et al. 2016; Hu et al. 2018, SENet-154 in appendix; He et al.
    2019, "Bag of tricks", figure 2 (deep stem: ResNet-C, average pool: ResNet-D); for the dilation,
    gluoncv/model_zoo/resnetv1b.py (``dilated=True`` is the output stride 8) and timm/models/resnet.py. The
    average pool of a dilated shortcut has size 1, as in GluonCV; timm's has size 2.

    Raises:
        ValueError: if a network with this stem cannot have the output stride, or if there is no such pool.
    """

    depths: tuple[int, ...]
    cardinality: int = 1
    width: int = 64
    block: Literal["basic", "bottleneck"] = "bottleneck"
    stem: Literal["7x7", "deep", "small"] = "7x7"
    stem_width: int = 64
    pool: Literal["padded", "ceil", "none"] = "padded"
    narrow: bool = False
    squeeze_excite: bool = False
    shortcut_kernel: int = 1
    shortcut_pool: Literal["never", "strided", "always"] = "never"
    dropout: float = 0.0
    in_chans: int = COLOURS
    num_classes: int = 1000
    output_stride: int = OUTPUT_STRIDES[-1]
    bn_eps: float = 1e-5
    global_pool: str = "avg"

    def __post_init__(self) -> None:
        """Check the output stride and the pool."""
        if self.output_stride not in self.output_strides:
            expected = ", ".join(map(str, self.output_strides))
            raise ValueError(f"output_stride: expected {expected}, found {self.output_stride}")
        if self.global_pool not in POOL_FACTORS:
            expected = ", ".join(map(repr, POOL_FACTORS))
            raise ValueError(f"global_pool: expected {expected}, found {self.global_pool!r}")
        if not self.global_pool and self.num_classes:
            raise ValueError("global_pool: a network with a head needs a pool; use num_classes=0")

    @property
    def output_strides(self) -> tuple[int, ...]:
        """The output strides that a network with this stem can have."""
        return (CIFAR_STRIDE,) if self.stem == "small" else OUTPUT_STRIDES

    @property
    def stem_channels(self) -> int:
        """The input channels of the first stage."""
        return 2 * self.stem_width if self.stem == "deep" else self.stem_width

    @property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each stage."""
        stages, inputs, reduction, previous = [], self.stem_channels, self.stem_reduction, 1
        for stage, (depth, channels) in enumerate(
            zip(self.depths, STAGE_CHANNELS[: len(self.depths)], strict=True)
        ):
            outputs, factor = channels * EXPANSIONS[self.block], 2 if stage > 0 else 1
            stride = factor if reduction * factor <= self.output_stride else 1
            reduction, dilation = reduction * stride, previous * factor // stride
            blocks = []
            for _ in range(depth):
                blocks.append(
                    Block(
                        inputs=inputs,
                        channels=channels,
                        outputs=outputs,
                        stride=stride,
                        first_dilation=previous,
                        dilation=dilation,
                        config=self,
                    )
                )
                inputs, stride, previous = outputs, 1, dilation
            stages.append(tuple(blocks))
        return tuple(stages)

    @property
    def stem_reduction(self) -> int:
        """The image's size divided by that of the first stage's input."""
        return (1 if self.stem == "small" else 2) * (1 if self.pool == "none" else 2)

    @property
    def features(self) -> int:
        """The channels of the last stage."""
        return STAGE_CHANNELS[len(self.depths) - 1] * EXPANSIONS[self.block]

    @property
    def head_features(self) -> int:
        """The input channels of the head."""
        return self.features * POOL_FACTORS[self.global_pool]

    @property
    def levels(self) -> tuple[Level, ...]:
        """The feature pyramid: the output of the stem before its pool, and of each stage."""
        levels = [Level("relu", self.stem_channels, 1 if self.stem == "small" else 2)]
        reduction = self.stem_reduction
        for number, stage in enumerate(self.stages):
            reduction *= stage[0].stride
            levels.append(Level(f"layer{number + 1}", stage[-1].outputs, reduction))
        return tuple(levels)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the feature pyramid.

    Attributes:
        module: the layer whose output it is.
        channels: number of channels.
        reduction: the image's size divided by the level's.
    """

    module: str
    channels: int
    reduction: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One residual block of a network.

    Attributes:
        inputs: input channels.
        channels: channels of the stage, before the block's expansion.
        outputs: output channels.
        stride: stride of the block, 1 or 2.
        first_dilation: dilation of its first 3×3 convolution, and of a 3×3 convolution on the shortcut.
        dilation: dilation of its further 3×3 convolutions.
        config: the network.
    """

    inputs: int
    channels: int
    outputs: int
    stride: int
    first_dilation: int
    dilation: int
    config: Config

    @property
    def undilated_stride(self) -> int:
        """The stride of the block in the network without dilation."""
        return self.stride * self.dilation // self.first_dilation

    @property
    def grouped(self) -> int:
        """The output channels of the grouped 3×3 convolution."""
        return self.config.cardinality * (self.channels * self.config.width // STAGE_CHANNELS[0])

    @property
    def reduced(self) -> int:
        """The output channels of the first 1×1 convolution."""
        return self.grouped // 2 if self.config.narrow else self.grouped

    @property
    def squeezed(self) -> int:
        """The channels between squeeze and excitation."""
        return self.outputs // SQUEEZE

    @property
    def projects(self) -> bool:
        """Whether the shortcut changes the shape and needs a projection."""
        return self.undilated_stride > 1 or self.inputs != self.outputs

    @property
    def pools(self) -> bool:
        """Whether the shortcut has an average pool before its convolution."""
        pool = self.config.shortcut_pool
        return self.projects and (pool == "always" or (pool == "strided" and self.undilated_stride > 1))

    @property
    def shortcut_kernel(self) -> int:
        """The kernel size of the shortcut's convolution."""
        return self.config.shortcut_kernel if self.undilated_stride > 1 and not self.pools else 1


RESNEXT50 = Config(depths=(3, 4, 6, 3), cardinality=32, width=4)
RESNEXT101 = replace(RESNEXT50, depths=(3, 4, 23, 3))
RESNEXT101_64 = replace(RESNEXT101, cardinality=64)
SENET154 = Config(
    depths=(3, 8, 36, 3),
    cardinality=64,
    width=4,
    stem="deep",
    pool="ceil",
    narrow=True,
    squeeze_excite=True,
    shortcut_kernel=3,
    dropout=0.2,
)
CIFAR29 = Config(depths=(3, 3, 3), stem="small", pool="none", num_classes=10, output_stride=CIFAR_STRIDE)
RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
RESNET_VERSIONS = {
    "v1b": Config(depths=()),
    "v1c": Config(depths=(), stem="deep", stem_width=32),
    "v1d": Config(depths=(), stem="deep", stem_width=32, shortcut_pool="always"),
    "v1e": Config(depths=(), stem="deep", shortcut_pool="always"),
    "v1s": Config(depths=(), stem="deep"),
}

CONFIGS = {
    "gluon_resnext50_32x4d": RESNEXT50,
    "gluon_resnext101_32x4d": RESNEXT101,
    "gluon_resnext101_64x4d": RESNEXT101_64,
    "gluon_resnext101e_64x4d": replace(RESNEXT101_64, stem="deep", shortcut_pool="strided"),
    "gluon_seresnext50_32x4d": replace(RESNEXT50, squeeze_excite=True),
    "gluon_seresnext101_32x4d": replace(RESNEXT101, squeeze_excite=True),
    "gluon_seresnext101_64x4d": replace(RESNEXT101_64, squeeze_excite=True),
    "gluon_seresnext101e_64x4d": replace(
        RESNEXT101_64, squeeze_excite=True, stem="deep", shortcut_pool="strided"
    ),
    "gluon_senet154": SENET154,
    "gluon_senet154e": replace(SENET154, shortcut_pool="strided"),
    "gluon_resnet18_v1b": Config(depths=(2, 2, 2, 2), block="basic"),
    "gluon_resnet34_v1b": Config(depths=(3, 4, 6, 3), block="basic"),
    **{
        f"gluon_resnet{layers}_{version}": replace(config, depths=depths)
        for version, config in RESNET_VERSIONS.items()
        for layers, depths in RESNETS.items()
    },
    "gluon_cifar_resnext29_32x4d": replace(CIFAR29, cardinality=32, width=4),
    "gluon_cifar_resnext29_16x64d": replace(CIFAR29, cardinality=16, width=64),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The name and shape of one tensor in a state dict."""

    name: str
    shape: Shape
    trainable: bool


def state_spec(config: Config) -> tuple[TensorSpec, ...]:
    """Return the entries of ``ResNeXt(config).state_dict()``, in order, without building the module."""
    return tuple(_network(config))


def parameter_count(config: Config) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(spec.shape) for spec in state_spec(config) if spec.trainable)


def _network(config: Config) -> Iterator[TensorSpec]:
    yield from _stem(config)
    for number, stage in enumerate(config.stages, start=1):
        for index, block in enumerate(stage):
            yield from _block(f"layer{number}.{index}", block)
    if config.num_classes:
        yield TensorSpec("fc.weight", (config.num_classes, config.head_features), trainable=True)
        yield TensorSpec("fc.bias", (config.num_classes,), trainable=True)


def _stem(config: Config) -> Iterator[TensorSpec]:
    width = config.stem_width
    if config.stem == "deep":
        yield from _conv("conv1.0", width, config.in_chans, kernel=3)
        yield from _batch_norm("conv1.1", width)
        yield from _conv("conv1.3", width, width, kernel=3)
        yield from _batch_norm("conv1.4", width)
        yield from _conv("conv1.6", 2 * width, width, kernel=3)
    else:
        yield from _conv("conv1", width, config.in_chans, kernel=7 if config.stem == "7x7" else 3)
    yield from _batch_norm("bn1", config.stem_channels)


def _block(name: str, block: Block) -> Iterator[TensorSpec]:
    if block.config.block == "basic":
        yield from _conv(f"{name}.conv1", block.outputs, block.inputs, kernel=3)
        yield from _batch_norm(f"{name}.bn1", block.outputs)
        yield from _conv(f"{name}.conv2", block.outputs, block.outputs, kernel=3)
        yield from _batch_norm(f"{name}.bn2", block.outputs)
    else:
        yield from _conv(f"{name}.conv1", block.reduced, block.inputs, kernel=1)
        yield from _batch_norm(f"{name}.bn1", block.reduced)
        yield from _conv(f"{name}.conv2", block.grouped, block.reduced // block.config.cardinality, kernel=3)
        yield from _batch_norm(f"{name}.bn2", block.grouped)
        yield from _conv(f"{name}.conv3", block.outputs, block.grouped, kernel=1)
        yield from _batch_norm(f"{name}.bn3", block.outputs)
    if block.config.squeeze_excite:
        yield from _conv(f"{name}.se.fc1", block.squeezed, block.outputs, kernel=1, bias=True)
        yield from _conv(f"{name}.se.fc2", block.outputs, block.squeezed, kernel=1, bias=True)
    if block.projects:
        conv, bn = (1, 2) if block.pools else (0, 1)
        yield from _conv(
            f"{name}.downsample.{conv}", block.outputs, block.inputs, kernel=block.shortcut_kernel
        )
        yield from _batch_norm(f"{name}.downsample.{bn}", block.outputs)


def _conv(
    name: str, outputs: int, inputs_per_group: int, *, kernel: int, bias: bool = False
) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (outputs, inputs_per_group, kernel, kernel), trainable=True)
    if bias:
        yield TensorSpec(f"{name}.bias", (outputs,), trainable=True)


def _batch_norm(name: str, channels: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (channels,), trainable=True)
    yield TensorSpec(f"{name}.bias", (channels,), trainable=True)
    yield TensorSpec(f"{name}.running_mean", (channels,), trainable=False)
    yield TensorSpec(f"{name}.running_var", (channels,), trainable=False)
    yield TensorSpec(f"{name}.num_batches_tracked", (), trainable=False)
