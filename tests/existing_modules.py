"""Modules that a user could have written: those of ``graph_files.small_network``, and some that differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels, eps=eps)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.first_norm(self.first(x)).relu_()
        y: Tensor = torch.relu(self.second_norm(self.second(x1)) + x)
        return y


class Small(nn.Module):
    """The network of ``graph_files.small_network`` up to its loss, in other words and another order."""

    def __init__(self, classes: int = 5, eps: float = 0.0010000000474974513, stride: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(8, classes)
        self.blocks = nn.Sequential(Block(8, eps), Block(8, eps))
        self.stem = nn.Conv2d(1, 8, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > x.amax():  # Python that torch.fx cannot trace
            raise AssertionError
        x = self.blocks(self.norm(self.stem(x)))
        y: Tensor = self.head(x.mean((2, 3))).softmax(-1)
        return y


class Logits(Small):
    """The same network without its softmax."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.norm(self.stem(x))).mean((2, 3)))
        return y


class Clipped(Small):
    """The same network with a ReLU6, whose bound the inputs of a proof do not reach."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm(self.stem(x)).clamp(max=6 * 4))
        y: Tensor = self.head(x.mean((2, 3))).softmax(-1)
        return y


class Mixed(Small):
    """The same network, but its output is the mean of all images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(0, keepdim=True).expand(len(x), -1)


class Noisy(Small):
    """The same network with a random tensor that is not in its state dict."""

    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.empty(1).normal_(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.noise)


class Counting(Small):
    """The same network, but only when it is called first."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class Unused(Small):
    """The same network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(8, 5)


class Shallow(Small):
    """The same network without its second block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 1e-3))


class Broken(Small):
    """The same network with a slip that no structure shows: a ReLU after the stem."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm(self.stem(x)).clamp(min=0))
        y: Tensor = self.head(x.mean((2, 3))).softmax(-1)
        return y


class Branches(nn.Module):
    """Two branches of equal layers, which are added."""

    def __init__(self, swapped: bool = False) -> None:
        super().__init__()
        self.swapped = swapped
        self.left = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.right = nn.Conv2d(1, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        right = self.right(x) if self.swapped else torch.zeros(())
        y: Tensor = self.left(x).relu()
        return y + (right if self.swapped else self.right(x))


class Tied(nn.Module):
    """One layer under two names, a buffer of the module's own, and a constant that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.alias = self.fc
        self.register_buffer("scale", torch.arange(1.0, 5.0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        return y


def leaky(slope: float) -> nn.Sequential:
    """Return a convolution and a leaky ReLU."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.LeakyReLU(slope))


class Pooled(nn.Module):
    """A convolution and a max pool whose stride is no attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.max_pool2d(self.conv(x), 3, 1)
        return y


class Ignoring(Pooled):
    """The same network with an attribute that its pool ignores."""

    stride = 1


class Vector(nn.Module):
    """Two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return y


class Largest(Vector):
    """Its largest output, by number."""

    def forward(self, x: Tensor) -> Tensor:
        return Vector.forward(self, x).argmax(1).to(x.dtype)


class ClippedVector(Vector):
    """The same network with a bound that the inputs of a proof do not reach."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).clamp(0, 6))
        return y


class Undrawn(Vector):
    """The same network with a buffer that is not in the state dict, and is 0 without initialization."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.empty(1), persistent=False)
        nn.init.constant_(self.scale, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu() * (1 + self.scale))
        return y


def number() -> int:
    """Return something that is no module."""
    return 7


def folded(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return a convolution without a bias, and a BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class OwnError(Exception):
    """An exception of a module's own."""


def failing() -> Small:
    """Raise an exception of its own."""
    raise OwnError


def noted(note: str | None = None) -> Small:  # noqa: ARG001 - an argument that may be null
    """Return the small network."""
    return Small()


class OtherForms(nn.Module):
    """A convolution with a bias, and a dense layer as a 1×1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Conv2d(4096, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.stem(x).reshape(len(x), 4096, 1, 1)).flatten(1)
        return y
