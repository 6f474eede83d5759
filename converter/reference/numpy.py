"""A forward of Gluon parameters in plain numpy: a second reference, which runs wherever Python does.

It reads Gluon's names and shapes and knows GluonCV's networks from GluonCV alone; it shares no code with our
PyTorch modules. What a network is, its parameters tell: a deep stem, a pooled shortcut and squeeze-excitation
are there if they have arrays. Each layer is computed when it is asked for, in the type of the input.

Source: gluoncv/model_zoo/{resnext,senet,resnetv1b,cifarresnext}.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

import itertools
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.reference import Output, operators

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from converter.dtypes import Array
    from converter.files.stored import Arrays
    from converter.proof.verdict import Probe
    from converter.reference import Settings

    Layers = Generator[Output, None, Array]  # yields each layer's output, returns the last

NAME = "numpy"
BN_EPS = 1e-5  # GluonCV's everywhere


@dataclass(frozen=True, slots=True)
class Run:
    """The reference for some parameters, by Gluon's structural names, and some inputs."""

    params: Arrays
    probes: tuple[Probe, ...]
    name: str = NAME

    def outputs(self, number: int) -> Iterator[Output]:
        """Compute the layers' outputs for one probe, each when it is asked for."""
        return _Network(self.params).forward(self.probes[number].input())

    def versions(self) -> dict[str, str]:
        """Return what the numbers may depend on."""
        return {"numpy": np.__version__, "python": platform.python_version()}


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a network keeps its layers. ``stem`` and ``body``: pairs of a convolution and its BatchNorm."""

    stem: list[tuple[str, str]]
    pool: str | None
    stages: list[str]
    body: list[tuple[str, str]]
    mean: str
    head: str


def _sequential(params: Arrays) -> _Names:
    """Read the names of ResNeXt and SENet: everything but the head is numbered, ReLUs included."""
    number, stem = 0, []
    while f"features.{number}.weight" in params:
        stem.append((f"features.{number}", f"features.{number + 1}"))
        number += 3
    pool = None
    if f"features.{number}.0.body.0.weight" not in params:
        pool = f"features.{number}"
        number += 1
    stages = list(
        itertools.takewhile(
            lambda stage: f"{stage}.0.body.0.weight" in params,
            (f"features.{index}" for index in itertools.count(number)),
        )
    )
    body = [("body.0", "body.1"), ("body.3", "body.4"), ("body.6", "body.7")]
    return _Names(stem, pool, stages, body, f"features.{number + len(stages)}", "output")


def _named(params: Arrays) -> _Names:
    """Read the names of ResNet v1b and its successors, which name their layers as PyTorch does."""
    deep = [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")]
    stem = [("conv1", "bn1")] if "conv1.weight" in params else deep
    body = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")]
    return _Names(stem, "maxpool", [f"layer{number}" for number in range(1, 5)], body, "avgpool", "fc")


class _Network:
    """Gluon's parameters, and the network that they tell of."""

    def __init__(self, params: Arrays) -> None:
        self.params = params
        self.names = _sequential(params) if "features.0.weight" in params else _named(params)

    def forward(self, x: Array) -> Layers:
        """Compute every layer. Shapes: (n, 3, h, w) → (n, classes)."""
        names = self.names
        for number, (conv, norm) in enumerate(names.stem):
            # With a pool to come the stem halves the image twice; CIFAR's keeps its size.
            x = yield from self._conv(conv, x, stride=2 if number == 0 and names.pool else 1)
            x = operators.relu((yield from self._batch_norm(norm, x)))
        if names.pool:
            x = yield from self._max_pool(names.pool, x)
        for number, stage in enumerate(names.stages):
            for index in range(self._depth(stage)):
                stride = 2 if number > 0 and index == 0 else 1
                x = yield from self._block(f"{stage}.{index}", x, stride)
        x = operators.global_mean(x)
        yield Output(names.mean, x, {})
        x = operators.dense(x.reshape(len(x), -1), *self._arrays(names.head, "weight", "bias"))
        yield Output(names.head, x, {})
        return x

    def _block(self, block: str, x: Array, stride: int) -> Layers:
        """Compute a basic or a bottleneck block. The first convolution wider than 1×1 has the stride."""
        shortcut, left = x, stride
        body = [pair for pair in self.names.body if f"{block}.{pair[0]}.weight" in self.params]
        for number, (conv, norm) in enumerate(body):
            wide = self.params[f"{block}.{conv}.weight"].shape[-1] > 1
            x = yield from self._conv(f"{block}.{conv}", x, stride=left if wide else 1)
            x = yield from self._batch_norm(f"{block}.{norm}", x)
            left = 1 if wide else left
            x = x if number == len(body) - 1 else operators.relu(x)
        if f"{block}.se.0.weight" in self.params:
            x = yield from self._squeeze_excite(f"{block}.se", x)
        x = operators.relu(x + (yield from self._shortcut(f"{block}.downsample", shortcut, stride)))
        yield Output(block, x, {})
        return x

    def _shortcut(self, name: str, x: Array, stride: int) -> Layers:
        """Compute a convolution and a BatchNorm, after an average pool if there is one, or nothing."""
        if f"{name}.1.weight" in self.params:
            x = operators.average_pool(x, stride=stride)
            settings: Settings = {"kernel": stride, "stride": stride, "padding": 0, "ceil_mode": True}
            yield Output(f"{name}.0", x, settings)
            x = yield from self._conv(f"{name}.1", x)
            return (yield from self._batch_norm(f"{name}.2", x))
        if f"{name}.0.weight" in self.params:
            x = yield from self._conv(f"{name}.0", x, stride=stride)
            return (yield from self._batch_norm(f"{name}.1", x))
        return x

    def _squeeze_excite(self, name: str, x: Array) -> Layers:
        weights = operators.relu((yield from self._conv(f"{name}.0", operators.global_mean(x))))
        weights = operators.sigmoid((yield from self._conv(f"{name}.2", weights)))
        return x * weights

    def _conv(self, name: str, x: Array, *, stride: int = 1) -> Layers:
        """Compute a convolution, padded so that it keeps the size, with its bias if it has one."""
        (weight,) = self._arrays(name, "weight")
        kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
        x = operators.conv(x, weight, stride=stride, padding=kernel // 2, groups=groups)
        if f"{name}.bias" in self.params:
            x += self._arrays(name, "bias")[0].astype(x.dtype).reshape(-1, 1, 1)
        settings: Settings = {
            "kernel": kernel,
            "stride": stride,
            "padding": kernel // 2,
            "groups": groups,
            "dilation": 1,
        }
        yield Output(name, x, settings)
        return x

    def _batch_norm(self, name: str, x: Array) -> Layers:
        arrays = self._arrays(name, "gamma", "beta", "running_mean", "running_var")
        x = operators.batch_norm(x, *arrays, eps=BN_EPS)
        yield Output(name, x, {"eps": BN_EPS})
        return x

    def _max_pool(self, name: str, x: Array) -> Layers:
        """Compute the stem's pool. SENet's, known by its narrow 1×1, rounds up and is not padded."""
        first = f"{self.names.stages[0]}.0"
        widths = [self.params[f"{first}.{conv}.weight"].shape[0] for conv, _ in self.names.body[:2]]
        ceil = widths[1] == 2 * widths[0]
        padding = 0 if ceil else 1
        x = operators.max_pool(x, kernel=3, stride=2, padding=padding, ceil=ceil)
        yield Output(name, x, {"kernel": 3, "stride": 2, "padding": padding, "ceil_mode": ceil})
        return x

    def _depth(self, stage: str) -> int:
        first = self.names.body[0][0]
        return next(
            index for index in itertools.count() if f"{stage}.{index}.{first}.weight" not in self.params
        )

    def _arrays(self, name: str, *roles: str) -> list[Array]:
        return [np.asarray(self.params[f"{name}.{role}"]) for role in roles]
