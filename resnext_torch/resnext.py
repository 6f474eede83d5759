"""ResNet, ResNeXt and SENet as GluonCV defines them, with the tensor names of torchvision and timm.

Sources: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks", figure 3 (c);
Hu et al. 2018, "Squeeze-and-Excitation Networks", figure 3; gluoncv/model_zoo/resnext.py, senet.py,
resnetv1b.py and cifarresnext.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from . import checkpointing, class_names, data_config
from .pooling import GLOBAL_POOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .config import Block, Config


class Bottleneck(nn.Module):
    """Bottleneck block: 1×1 reduce, grouped 3×3 with the stride, 1×1 expand; added to the shortcut.

    Shape:
        (n, inputs, h, w) → (n, outputs, ⌈h / stride⌉, ⌈w / stride⌉)
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        config = block.config
        self.conv1 = nn.Conv2d(block.inputs, block.reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(block.reduced, config.bn_eps)
        self.conv2 = nn.Conv2d(
            block.reduced,
            block.grouped,
            3,
            block.stride,
            block.first_dilation,
            block.first_dilation,
            groups=config.cardinality,
            bias=False,
        )
        self.bn2 = nn.BatchNorm2d(block.grouped, config.bn_eps)
        self.conv3 = nn.Conv2d(block.grouped, block.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(block.outputs, config.bn_eps)
        self.se = SqueezeExcite(block) if config.squeeze_excite else None
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(block) if block.projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        if self.se is not None:
            x = self.se(x)
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]  # modules are untyped callables


class Basic(nn.Module):
    """Basic block: two 3×3 convolutions, the first with the stride; added to the shortcut.

    Shape:
        (n, inputs, h, w) → (n, outputs, ⌈h / stride⌉, ⌈w / stride⌉)
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        eps = block.config.bn_eps
        first, later = block.first_dilation, block.dilation
        self.conv1 = nn.Conv2d(block.inputs, block.outputs, 3, block.stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(block.outputs, eps)
        self.conv2 = nn.Conv2d(block.outputs, block.outputs, 3, 1, later, later, bias=False)
        self.bn2 = nn.BatchNorm2d(block.outputs, eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(block) if block.projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]  # as above


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale each channel by a weight computed from the means of all channels.

    Shape:
        (n, outputs, h, w) → (n, outputs, h, w)
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(block.outputs, block.squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(block.squeezed, block.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled channels."""
        weights = self.fc2(self.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()  # type: ignore[no-any-return]  # as above


BLOCKS: dict[str, Callable[[Block], nn.Module]] = {"basic": Basic, "bottleneck": Bottleneck}
POOLS: dict[str, Callable[[], nn.Module]] = {
    "padded": lambda: nn.MaxPool2d(3, 2, 1),
    "ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "none": nn.Identity,
}


class ResNeXt(nn.Module):
    """A residual network of three or four stages, with initial weights and in training mode.

    Shape:
        (n, in_chans, h, w) → (n, num_classes), or (n, head_hidden_size) without a head
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.conv1 = _stem(config)
        self.bn1 = nn.BatchNorm2d(config.stem_channels, config.bn_eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = POOLS[config.pool]()
        for number, stage in enumerate(config.stages, start=1):
            self.add_module(f"layer{number}", nn.Sequential(*map(BLOCKS[config.block], stage)))
        self.avgpool = GLOBAL_POOLS[config.global_pool]()
        self.dropout = nn.Dropout(config.dropout)
        self.fc = _head(config)
        self.pretrained_cfg: dict[str, Any] = data_config.describe(config)
        self.class_list: tuple[str, ...] | Literal["imagenet"] = ()
        self.grad_checkpointing = False
        self.apply(_initialise)

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The older name of ``pretrained_cfg`` in timm: the input, and the weights if they were loaded."""
        return self.pretrained_cfg

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that were recorded with the weights, empty if none were.

        Weights for 1000 classes without recorded names have ImageNet's, if torchvision is installed.
        """
        return class_names.imagenet() if self.class_list == "imagenet" else self.class_list

    @property
    def num_classes(self) -> int:
        """The output channels of the head, 0 without a head."""
        return self.config.num_classes

    @property
    def num_features(self) -> int:
        """The channels of the last stage."""
        return self.config.features

    @property
    def head_hidden_size(self) -> int:
        """The input channels of the head: those of the last stage, or twice as many for "catavgmax"."""
        return self.config.head_features

    @property
    def in_chans(self) -> int:
        """The channels of the input."""
        return self.config.in_chans

    @property
    def drop_rate(self) -> float:
        """The dropout rate before the head."""
        return self.dropout.p

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The levels of the feature pyramid under timm's keys: ``num_chs``, ``reduction``, ``module``."""
        return [
            {"num_chs": level.channels, "reduction": level.reduction, "module": level.module}
            for level in self.config.levels
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the output of the last stage.

        Shape:
            (n, in_chans, h, w) → (n, features, ⌈h / output_stride⌉, ⌈w / output_stride⌉)
        """
        for level in self.forward_levels(x):
            x = level
        return x

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Return the logits, or with ``pre_logits`` the input of the last layer.

        Shape:
            (n, features, h, w) → (n, num_classes), or (n, head_hidden_size) with ``pre_logits``; without a
            pool (n, features, h, w)
        """
        x = self.avgpool(x)
        x = self.dropout(x.flatten(1) if self.config.global_pool else x)
        return x if pre_logits else self.fc(x)

    def forward_levels(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature maps of each level in ``config.levels``, computed lazily."""
        x = self.relu(self.bn1(self.conv1(x)))
        yield x
        x = self.maxpool(x)
        for number in range(1, len(self.config.depths) + 1):
            stage = getattr(self, f"layer{number}")
            is_checkpointed = self.grad_checkpointing and torch.is_grad_enabled()
            x = checkpointing.run(stage, x) if is_checkpointed else stage(x)
            yield x

    def forward_intermediates(  # noqa: PLR0913 - timm's arguments, by keyword
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,  # noqa: ARG002 - timm's argument; the levels have no further normalization
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the output of the last stage and the feature maps of some levels, in ascending order.

        Args:
            x: the images.
            indices: the levels, negative ones from the end; a number for that many last ones; None for all.
            norm: has no effect.
            stop_early: whether to compute no level after the last of these.
            output_fmt: "NCHW", the only supported format.
            intermediates_only: whether to return only the feature maps.

        Raises:
            IndexError: if a level does not exist.
            ValueError: if ``output_fmt`` has another value.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt: expected 'NCHW', found {output_fmt!r}")
        wanted = _level_indices(len(self.config.levels), indices)
        intermediates = []
        for index, level in enumerate(self.forward_levels(x)):
            x = level
            if index in wanted:
                intermediates.append(level)
            if stop_early and index == max(wanted):
                break
        return intermediates if intermediates_only else (x, intermediates)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the activations inside a block again in the backward pass, to save memory in training.

        Gradients and running statistics stay the same.
        """
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return regular expressions for groups of parameters: the stem, and each block or each stage.

        Args:
            coarse: whether a group is a stage.
        """
        return {"stem": r"^(?:conv1|bn1)", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """Return the head, or its name; without a head an ``nn.Identity``."""
        return data_config.CLASSIFIER if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head; with 0 classes remove it, so that the network returns features.

        Args:
            num_classes: number of classes.
            global_pool: pool before the head, as in ``Config``; None to keep it.

        Raises:
            ValueError: if there is no such pool, or none for the head.
        """
        pool = self.config.global_pool if global_pool is None else global_pool
        self.config = replace(self.config, num_classes=num_classes, global_pool=pool)
        self.avgpool = GLOBAL_POOLS[pool]()
        self.fc = _head(self.config).to(next(self.parameters()))
        self.class_list = ()
        self.avgpool.train(self.training)
        self.fc.train(self.training)


def _level_indices(count: int, indices: int | Sequence[int] | None) -> set[int]:
    """Return the numbers of the selected levels.

    Raises:
        IndexError: if one does not exist.
    """
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise IndexError(f"indices: expected 1 to {count} levels, found {indices}")
        return {*range(count - indices, count)}
    return {range(count)[index] for index in (range(count) if indices is None else indices)}


def _head(config: Config) -> nn.Module:
    return nn.Linear(config.head_features, config.num_classes) if config.num_classes else nn.Identity()


def _stem(config: Config) -> nn.Module:
    width, eps = config.stem_width, config.bn_eps
    if config.stem == "7x7":
        return nn.Conv2d(config.in_chans, width, 7, 2, 3, bias=False)
    if config.stem == "small":
        return nn.Conv2d(config.in_chans, width, 3, 1, 1, bias=False)
    return nn.Sequential(
        nn.Conv2d(config.in_chans, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width, eps),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width, eps),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
    )


def _projection(block: Block) -> nn.Sequential:
    """Return a projection shortcut: an optional average pool, a convolution and a BatchNorm."""
    kernel, eps = block.shortcut_kernel, block.config.bn_eps
    if block.pools:
        return nn.Sequential(
            nn.AvgPool2d(block.stride, block.stride, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(block.inputs, block.outputs, 1, bias=False),
            nn.BatchNorm2d(block.outputs, eps),
        )
    dilation = block.first_dilation if kernel > 1 else 1
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(block.inputs, block.outputs, kernel, block.stride, padding, dilation, bias=False),
        nn.BatchNorm2d(block.outputs, eps),
    )


def _initialise(module: nn.Module) -> None:
    # Initialising on the meta device has no effect, and imports torch's compiler, which takes a second.
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
