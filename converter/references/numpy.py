"""The NumPy reference, which needs no other framework.

It runs ``networks.definition`` on NumPy arrays and shares no code with our PyTorch modules. Layers are
computed lazily, in the dtype of the input.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.operators import ADD, BATCH_NORM, CONVOLUTION, DENSE, MULTIPLY, POOLING, RELU, SIGMOID
from converter.networks.definition import UNDILATED, GluonNetwork
from converter.references import LayerOutput, ReferenceName, kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Operation, Settings
    from converter.references.probes import Probe

NAME: ReferenceName = "numpy"


@dataclass(frozen=True, slots=True)
class NumpyRun:
    """A run of the NumPy reference.

    Attributes:
        params: the parameters by Gluon's structural names.
        probes: the inputs.
        output_stride: the network's output stride, which its parameters do not show.
        name: the name of the reference.
    """

    params: Arrays
    probes: tuple[Probe, ...]
    output_stride: int = UNDILATED
    name: ReferenceName = NAME

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        """Yield the layers' outputs for one probe, computed lazily."""
        shapes = {name: array.shape for name, array in self.params.items()}
        network = GluonNetwork(shapes, _Operators(self.params), self.output_stride)
        for output in network.run(self.probes[number].input()):
            yield LayerOutput(output.layer, output.value, output.settings)

    def versions(self) -> dict[str, str]:
        """Return the versions of NumPy and Python, on which the outputs may depend."""
        return {"numpy": np.__version__, "python": platform.python_version()}


class _Operators:
    """Applies operations to arrays; reads parameters on demand."""

    def __init__(self, params: Arrays) -> None:
        self.params = params

    def apply(self, operation: Operation, inputs: tuple[Array, ...], layer: str) -> Array:
        params = (np.asarray(self.params[f"{layer}.{role}"]) for role in operation.roles)
        return _KERNELS[operation.kind](operation.settings, *inputs, *params)


def _convolution(settings: Settings, x: Array, weight: Array, bias: Array | None = None) -> Array:
    keys = ("stride", "padding", "groups", "dilation")
    x = kernels.conv(x, weight, **{key: _integer(settings, key) for key in keys})
    if bias is not None:
        x += bias.astype(x.dtype).reshape(-1, 1, 1)
    return x


def _batch_norm(settings: Settings, x: Array, *statistics: Array) -> Array:
    eps = settings["eps"]
    if not isinstance(eps, float):
        raise TypeError(eps)
    return kernels.batch_norm(x, *statistics, eps=eps)


def _pooling(settings: Settings, x: Array) -> Array:
    if settings["global"]:
        return kernels.global_mean(x)
    if settings["pool"] == "avg":
        return kernels.average_pool(x, stride=_integer(settings, "stride"))
    kernel, stride, padding = (_integer(settings, key) for key in ("kernel", "stride", "padding"))
    return kernels.max_pool(
        x, kernel=kernel, stride=stride, padding=padding, ceil=bool(settings["ceil_mode"])
    )


def _dense(_: Settings, x: Array, weight: Array, bias: Array) -> Array:
    return kernels.dense(x.reshape(len(x), -1), weight, bias)


def _integer(settings: Settings, key: str) -> int:
    value = settings[key]
    if not isinstance(value, int):
        raise TypeError(value)
    return value


_KERNELS: dict[str, Callable[..., Array]] = {
    CONVOLUTION: _convolution,
    BATCH_NORM: _batch_norm,
    POOLING: _pooling,
    DENSE: _dense,
    RELU: lambda _, x: kernels.relu(x),
    SIGMOID: lambda _, x: kernels.sigmoid(x),
    ADD: lambda _, x, other: x + other,
    MULTIPLY: lambda _, x, other: x * other,
}
