"""Convolutions and dense layers.

Source: src/operator/nn/{convolution,deconvolution,fully_connected}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Pair
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.kinds import CONVOLUTION, DENSE
from converter.graphs.operators.registry import MXNET, operator, other, other_axes, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.dtypes import Array
    from converter.graphs.graph import Value
    from converter.graphs.operators.code import Argument, Arguments, Compute, Shape

IMAGE_RANK = 4  # of (n, channels, h, w)
CHANNEL_AXES = 2  # n and channels
LAYOUTS = {1: "NCW", 3: "NCDHW"}


@operator("Convolution", "Convolution_v1", "_npx_convolution")
def _convolution(
    *,
    kernel: Pair,
    num_filter: int,
    stride: Pair = 1,
    dilate: Pair = 1,
    pad: Pair = 0,
    num_group: int = 1,
    no_bias: bool = False,
    layout: str = "NCHW",
    workspace: int = 1024,
    cudnn_tune: str = "",
    cudnn_off: bool = False,
) -> Operation:
    settings: dict[str, Value] = {
        "kernel": kernel,
        "stride": stride,
        "padding": pad,
        "dilation": dilate,
        "groups": num_group,
        "filters": num_filter,
        "layout": layout,
    }
    code, compute, roles = _convolution_code(
        both(kernel),
        num_filter,
        stride=both(stride),
        dilate=both(dilate),
        pad=both(pad),
        num_group=num_group,
        no_bias=no_bias,
    )
    return Operation(
        kind=CONVOLUTION,
        roles=roles,
        settings=settings,
        code=code if layout == "NCHW" else None,
        compute=compute,
        refused="" if layout == "NCHW" else "layout is not NCHW",
        input_rank=IMAGE_RANK,
        rank=IMAGE_RANK,
    )


@other_axes("Convolution", "Convolution_v1")
def _convolution_of_other_axes(
    *,
    kernel: Axes,
    num_filter: int,
    stride: Axes = (),
    dilate: Axes = (),
    pad: Axes = (),
    num_group: int = 1,
    no_bias: bool = False,
    layout: str = "",
    workspace: int = 1024,
    cudnn_tune: str = "",
    cudnn_off: bool = False,
) -> Operation:
    count = len(kernel)
    if count not in LAYOUTS or layout not in {"", LAYOUTS[count]}:
        return refuse("Convolution", "layout is not NCW or NCDHW")
    code, compute, roles = _convolution_code(
        kernel,
        num_filter,
        stride=stride or (1,) * count,
        dilate=dilate or (1,) * count,
        pad=pad or (0,) * count,
        num_group=num_group,
        no_bias=no_bias,
    )
    operation = other("Convolution", code, compute, roles=roles, rank=count + CHANNEL_AXES)
    return replace(operation, input_rank=count + CHANNEL_AXES)


def _convolution_code(
    kernel: Axes, num_filter: int, *, stride: Axes, dilate: Axes, pad: Axes, num_group: int, no_bias: bool
) -> tuple[Code, Compute, tuple[str, ...]]:
    roles = ("weight",) if no_bias else ("weight", "bias")
    given: Arguments = {
        "stride": one(stride),
        "padding": one(pad),
        "dilation": one(dilate),
        "groups": num_group,
    }
    options = _changed(given, {"stride": 1, "padding": 0, "dilation": 1, "groups": 1})

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        inputs = shapes["weight"][1] * num_group
        channels: Arguments = {"_in": inputs, "_out": num_filter, "_kernel": one(kernel)}
        return channels | options | ({"bias": False} if no_bias else {})

    def compute(x: Array, weight: Array, bias: Array | None = None) -> Array:
        return convolve(x, weight, bias, stride=stride, padding=pad, dilation=dilate, groups=num_group)

    count = len(kernel)
    layer = TorchLayer(type=f"nn.Conv{count}d", arguments=arguments, tensors={role: role for role in roles})
    return Code(_functional(f"F.conv{count}d", roles, options), layer), compute, roles


@operator("Deconvolution")
def _deconvolution(
    *,
    kernel: Pair,
    num_filter: int,
    stride: Pair = 1,
    dilate: Pair = 1,
    pad: Pair = 0,
    adj: Pair = 0,
    target_shape: Pair = 0,
    num_group: int = 1,
    no_bias: bool = True,
    layout: str = "NCHW",
    workspace: int = 512,
    cudnn_tune: str = "",
    cudnn_off: bool = False,
) -> Operation:
    roles = ("weight",) if no_bias else ("weight", "bias")
    if layout != "NCHW":
        return refuse("Deconvolution", "layout is not NCHW")
    if target_shape != 0:
        return refuse("Deconvolution", "target_shape is not supported")
    given: Arguments = {
        "stride": stride,
        "padding": pad,
        "output_padding": adj,
        "groups": num_group,
        "dilation": dilate,
    }
    usual: Arguments = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    options = _changed(given, usual)

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        channels: Arguments = {"_in": shapes["weight"][0], "_out": num_filter, "_kernel": kernel}
        return channels | options | ({"bias": False} if no_bias else {})

    def compute(x: Array, weight: Array, bias: Array | None = None) -> Array:
        return transpose_convolve(
            x,
            weight,
            bias,
            stride=both(stride),
            padding=both(pad),
            added=both(adj),
            dilation=both(dilate),
            groups=num_group,
        )

    layer = TorchLayer(type="nn.ConvTranspose2d", arguments=arguments, tensors={role: role for role in roles})
    return Operation(
        kind=f"{MXNET}Deconvolution",
        roles=roles,
        code=Code(_functional("F.conv_transpose2d", roles, options), layer),
        compute=compute,
        input_rank=IMAGE_RANK,
        rank=IMAGE_RANK,
    )


@operator("FullyConnected", "_npx_fully_connected")
def _fully_connected(*, num_hidden: int, no_bias: bool = False, flatten: bool = True) -> Operation:
    roles = ("weight",) if no_bias else ("weight", "bias")
    data = "{0}.flatten(1)" if flatten else "{0}"

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        features: Arguments = {"_in": shapes["weight"][1], "_out": num_hidden}
        return features | ({"bias": False} if no_bias else {})

    def compute(x: Array, weight: Array, bias: Array | None = None) -> Array:
        y: Array = (x.reshape(len(x), -1) if flatten else x) @ weight.T.astype(x.dtype)
        return y if bias is None else y + bias.astype(x.dtype)

    layer = TorchLayer(
        type="nn.Linear",
        arguments=arguments,
        tensors={role: role for role in roles},
        applied=f"{{layer}}({data})",
    )
    inputs = ", ".join([data, "{1}", "{2}"][: 1 + len(roles)])
    return Operation(
        kind=DENSE,
        roles=roles,
        settings={"outputs": num_hidden, "flatten": flatten},
        code=Code(f"F.linear({inputs})", layer),
        compute=compute,
        rank=2 if flatten else None,
        keeps_rank=not flatten,
    )


def both(size: int | tuple[int, ...]) -> Axes:
    """Return (height, width) of a size that may be one number for both."""
    return size if isinstance(size, tuple) else (size, size)


def one(size: Axes) -> int | Axes:
    """Return the number of a size that is the same along all axes, else the size."""
    return size[0] if len(set(size)) == 1 else size


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Axes,
    padding: Axes,
    dilation: Axes,
    groups: int,
) -> Array:
    """Compute a convolution, as a sum of matrix products over the positions in the kernel.

    Shape:
        x: (n, groups · c, h, w)
        weight: (filters, c, kernel, kernel)
        output: (n, filters, h', w')
    """
    kernel = weight.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), *((each, each) for each in padding)))
    sizes = [
        (size - step * (width - 1) - 1) // jump + 1
        for size, width, jump, step in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    factors = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).astype(x.dtype)
    factors = np.ascontiguousarray(np.moveaxis(factors, -1, 0))  # else matrix products are slow
    y = np.zeros((len(x), groups, factors.shape[2], math.prod(sizes)), x.dtype)
    for number, place in enumerate(itertools.product(*map(range, kernel))):
        window = tuple(
            slice(at * step, at * step + jump * (size - 1) + 1, jump)
            for at, step, jump, size in zip(place, dilation, stride, sizes, strict=True)
        )
        part = x[:, :, *window].reshape(len(x), groups, weight.shape[1], -1)
        factor = factors[number]
        if factor.shape[1:] == (1, 1):  # depthwise: a matrix product of single numbers is slow
            y += part * factor
        else:
            y += factor @ part
    y = y.reshape(len(x), len(weight), *sizes)
    return y if bias is None else y + bias.astype(x.dtype).reshape(-1, *(1,) * len(sizes))


def transpose_convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Axes,
    padding: Axes,
    added: Axes,
    dilation: Axes,
    groups: int,
) -> Array:
    """Compute a transposed convolution: every input adds a multiple of the kernel to the output.

    Shape:
        x: (n, groups · c, h, w)
        weight: (groups · c, filters / groups, kernel, kernel)
        output: (n, filters, h', w')
    """
    kernel, sizes = weight.shape[2:], x.shape[2:]
    whole = [
        jump * (size - 1) + step * (width - 1) + 1 + more
        for size, width, jump, step, more in zip(sizes, kernel, stride, dilation, added, strict=True)
    ]
    factors = weight.reshape(groups, -1, weight.shape[1], math.prod(kernel)).astype(x.dtype)
    factors = np.ascontiguousarray(np.moveaxis(factors, -1, 0))
    data = x.reshape(len(x), groups, -1, sizes[0] * sizes[1])
    y = np.zeros((len(x), groups * weight.shape[1], *whole), x.dtype)
    for number, place in enumerate(itertools.product(*map(range, kernel))):
        window = tuple(
            slice(at * step, at * step + jump * (size - 1) + 1, jump)
            for at, step, jump, size in zip(place, dilation, stride, sizes, strict=True)
        )
        part = factors[number].transpose(0, 2, 1) @ data
        y[:, :, *window] += part.reshape(len(x), -1, *sizes)
    y = y[:, :, *(slice(edge, size - edge) for edge, size in zip(padding, whole, strict=True))]
    return y if bias is None else y + bias.astype(x.dtype).reshape(-1, 1, 1)


def _changed(given: Arguments, usual: Arguments) -> Arguments:
    """Return the arguments that are not PyTorch's defaults."""
    return {key: value for key, value in given.items() if value != usual[key]}


def _functional(function: str, roles: tuple[str, ...], options: Mapping[str, Argument]) -> str:
    inputs = ["{0}", "{1}", "{2}"][: 1 + len(roles)]
    return f"{function}({', '.join([*inputs, *(f'{key}={value!r}' for key, value in options.items())])})"
