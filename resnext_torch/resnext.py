"""ResNeXt as GluonCV builds it, under the names that torchvision and timm use.

Source: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks", figure 3 (c);
gluoncv/model_zoo/resnext.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from .config import CONFIGS, EXPANSION, STAGE_CHANNELS, STEM_CHANNELS, Config


class Bottleneck(nn.Module):
    """1×1 reduce, grouped 3×3 with the stride, 1×1 expand; added to the shortcut.

    Shapes: (n, inputs, h, w) → (n, 4 · channels, ⌈h / stride⌉, ⌈w / stride⌉).
    """

    def __init__(self, inputs: int, channels: int, stride: int, config: Config, *, first: bool) -> None:
        super().__init__()
        grouped, outputs = config.group_width(channels), channels * EXPANSION
        self.conv1 = nn.Conv2d(inputs, grouped, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(grouped, config.bn_eps)
        self.conv2 = nn.Conv2d(grouped, grouped, 3, stride, 1, groups=config.cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(grouped, config.bn_eps)
        self.conv3 = nn.Conv2d(grouped, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, config.bn_eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, outputs, stride, config) if first else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]  # modules are untyped callables


class ResNeXt(nn.Module):
    """A ResNeXt of four stages; freshly initialised, in training mode.

    Shapes: (n, 3, h, w) → (n, num_classes).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS, config.bn_eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(STEM_CHANNELS, 0, config)
        self.layer2 = _stage(STAGE_CHANNELS[0] * EXPANSION, 1, config)
        self.layer3 = _stage(STAGE_CHANNELS[1] * EXPANSION, 2, config)
        self.layer4 = _stage(STAGE_CHANNELS[2] * EXPANSION, 3, config)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(STAGE_CHANNELS[3] * EXPANSION, config.num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]  # as above


def create_model(name: str, num_classes: int = 1000) -> ResNeXt:
    """Build the network of that name, freshly initialised.

    Errors: ``KeyError`` for a name that is not in ``list_models()``.
    """
    return ResNeXt(replace(CONFIGS[name], num_classes=num_classes))


def _stage(inputs: int, index: int, config: Config) -> nn.Sequential:
    channels, stride = STAGE_CHANNELS[index], 1 if index == 0 else 2
    first = Bottleneck(inputs, channels, stride, config, first=True)
    rest = (
        Bottleneck(channels * EXPANSION, channels, 1, config, first=False)
        for _ in range(config.depths[index] - 1)
    )
    return nn.Sequential(first, *rest)


def _projection(inputs: int, outputs: int, stride: int, config: Config) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, config.bn_eps)
    )


def _initialise(module: nn.Module) -> None:
    # On the meta device there is nothing to draw, and drawing there imports torch's compiler, a second long.
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
