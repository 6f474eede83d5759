"""ResNet, ResNeXt and SENet as GluonCV defines them, with the tensor names of torchvision and timm.

Sources: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks", figure 3 (c);
Hu et al. 2018, "Squeeze-and-Excitation Networks", figure 3; gluoncv/model_zoo/resnext.py, senet.py,
resnetv1b.py and cifarresnext.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        (n, in_chans, h, w) → (n, num_classes), or (n, features) without a head
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
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = _head(config)
        self.apply(_initialise)

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
            (n, features, h, w) → (n, num_classes), or (n, features) with ``pre_logits``
        """
        x = self.dropout(self.avgpool(x).flatten(1))
        return x if pre_logits else self.fc(x)

    def forward_levels(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature maps of each level in ``config.levels``, computed lazily."""
        x = self.relu(self.bn1(self.conv1(x)))
        yield x
        x = self.maxpool(x)
        for number in range(1, len(self.config.depths) + 1):
            x = getattr(self, f"layer{number}")(x)
            yield x

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head; with 0 classes remove it, so that the network returns features."""
        self.config = replace(self.config, num_classes=num_classes)
        self.fc = _head(self.config).to(next(self.parameters()))


def _head(config: Config) -> nn.Module:
    return nn.Linear(config.features, config.num_classes) if config.num_classes else nn.Identity()


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
