"""A forward of Gluon parameters in plain numpy: a second reference, which runs wherever Python does.

It reads Gluon's names and shapes and knows GluonCV's networks from GluonCV alone; it shares no code with our
PyTorch modules. Each layer is computed when it is asked for, in the type of the input, and convolutions work
on a few rows at a time, so that memory stays that of a few layers.

Source: gluoncv/model_zoo/resnext.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

import itertools
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from converter.reference import Output

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from converter.params import Array
    from converter.proof import Probe

    Layers = Generator[Output, None, Array]  # yields each layer's output, returns the last

NAME = "numpy"
BN_EPS = 1e-5  # GluonCV's everywhere
FIRST_STAGE, STAGES = 4, 4
UNFOLDED_ELEMENTS = 1 << 21  # of an input at once, in a convolution: 16 MB in float64


@dataclass(frozen=True, slots=True)
class Run:
    """The reference for some parameters, by Gluon's structural names, and some inputs."""

    params: dict[str, Array]
    probes: tuple[Probe, ...]
    name: str = NAME

    def outputs(self, number: int) -> Iterator[Output]:
        """Compute the layers' outputs for one probe, each when it is asked for."""
        return resnext(self.params, self.probes[number].input())

    def versions(self) -> dict[str, str]:
        """Return what the numbers may depend on."""
        return {"numpy": np.__version__, "python": platform.python_version()}


def resnext(params: dict[str, Array], x: Array) -> Layers:
    """Forward a ResNeXt. Shapes: (n, 3, h, w) → (n, classes)."""
    x = yield from _conv(params, "features.0", x, stride=2, padding=3)
    x = yield from _batch_norm(params, "features.1", x)
    x = yield from _max_pool("features.3", _relu(x), kernel=3, stride=2, padding=1)
    for stage in range(STAGES):
        for block in itertools.count():
            name = f"features.{FIRST_STAGE + stage}.{block}"
            if f"{name}.body.0.weight" not in params:
                break
            x = yield from _block(params, name, x, stride=2 if stage > 0 and block == 0 else 1)
    x = x.mean(axis=(2, 3), keepdims=True)
    yield Output(f"features.{FIRST_STAGE + STAGES}", x, {})
    return (yield from _dense(params, "output", x.reshape(len(x), -1)))


def _block(params: dict[str, Array], name: str, x: Array, *, stride: int) -> Layers:
    """Forward a bottleneck; the stride is that of the grouped 3×3."""
    shortcut = x
    cardinality = len(params[f"{name}.body.0.weight"]) // params[f"{name}.body.3.weight"].shape[1]
    x = yield from _conv(params, f"{name}.body.0", x)
    x = yield from _batch_norm(params, f"{name}.body.1", x)
    x = yield from _conv(params, f"{name}.body.3", _relu(x), stride=stride, padding=1, groups=cardinality)
    x = yield from _batch_norm(params, f"{name}.body.4", x)
    x = yield from _conv(params, f"{name}.body.6", _relu(x))
    x = yield from _batch_norm(params, f"{name}.body.7", x)
    if f"{name}.downsample.0.weight" in params:
        shortcut = yield from _conv(params, f"{name}.downsample.0", shortcut, stride=stride)
        shortcut = yield from _batch_norm(params, f"{name}.downsample.1", shortcut)
    x = _relu(x + shortcut)
    yield Output(name, x, {})
    return x


def _conv(  # noqa: PLR0913 - a convolution has that many hyper-parameters
    params: dict[str, Array], name: str, x: Array, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Layers:
    """Cross-correlate. Shapes: x (n, groups · c, h, w), weight (outputs, c, kernel, kernel)."""
    weight = params[f"{name}.weight"]
    kernel = weight.shape[-1]
    weight = weight.reshape(groups, -1, weight[0].size).astype(
        x.dtype
    )  # (groups, outputs / groups, c · k · k)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(x, (1, 1, kernel, kernel))[:, :, ::stride, ::stride, 0, 0]
    n, channels, h, w = windows.shape[:4]
    out = np.empty((n, groups, weight.shape[1], h, w), x.dtype)
    rows = max(1, UNFOLDED_ELEMENTS // (n * channels * kernel * kernel * w))
    for top in range(0, h, rows):
        block = windows[:, :, top : top + rows].transpose(0, 1, 4, 5, 2, 3)  # (n, channels, k, k, rows, w)
        unfolded = block.reshape(n, groups, weight.shape[2], -1)
        out[:, :, :, top : top + rows] = (weight @ unfolded).reshape(n, groups, weight.shape[1], -1, w)
    out = out.reshape(n, -1, h, w)
    yield Output(
        name, out, {"kernel": kernel, "stride": stride, "padding": padding, "dilation": 1, "groups": groups}
    )
    return out


def _batch_norm(params: dict[str, Array], name: str, x: Array) -> Layers:
    """Normalise each channel by its running statistics. Shapes: x (n, c, h, w), arrays (c,)."""
    gamma, beta, mean, variance = (
        params[f"{name}.{role}"].astype(x.dtype).reshape(-1, 1, 1)
        for role in ("gamma", "beta", "running_mean", "running_var")
    )
    x = (x - mean) * (gamma / np.sqrt(variance + x.dtype.type(BN_EPS)))
    x += beta
    yield Output(name, x, {"eps": BN_EPS})
    return x


def _max_pool(name: str, x: Array, *, kernel: int, stride: int, padding: int) -> Layers:
    """Take the largest of each window; windows that would begin beyond the last whole one are left out."""
    border = (padding, padding)
    x = np.pad(x, ((0, 0), (0, 0), border, border), constant_values=-np.inf)
    h, w = ((size - kernel) // stride + 1 for size in x.shape[2:])
    shifted = [
        x[:, :, top : top + stride * (h - 1) + 1 : stride, left : left + stride * (w - 1) + 1 : stride]
        for top, left in itertools.product(range(kernel), repeat=2)
    ]
    out = shifted[0].copy()
    for other in shifted[1:]:
        np.maximum(out, other, out=out)
    yield Output(name, out, {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": False})
    return out


def _dense(params: dict[str, Array], name: str, x: Array) -> Layers:
    """Shapes: x (n, c), weight (outputs, c), bias (outputs,)."""
    weight, bias = (params[f"{name}.{role}"].astype(x.dtype) for role in ("weight", "bias"))
    out: Array = x @ weight.T + bias
    yield Output(name, out, {})
    return out


def _relu(x: Array) -> Array:
    out: Array = np.maximum(x, 0)
    return out
