"""Convolutions and dense layers.

Source: src/operator/nn/{convolution,deconvolution,fully_connected}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Pair
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.convolution_arrays import convolve, transpose_convolve
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
        return _deconvolution_to(target_shape, kernel, stride, dilate, num_group, roles)
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


def _deconvolution_to(  # noqa: PLR0917 - the attributes that count
    target: Pair, kernel: Pair, stride: Pair, dilate: Pair, groups: int, roles: tuple[str, ...]
) -> Operation:
    """Return a deconvolution to an image of a given size."""

    def edges(sizes: tuple[int, ...]) -> tuple[Axes, Axes]:
        spare = [
            jump * (size - 1) + step * (width - 1) + 1 - wanted
            for size, width, jump, step, wanted in zip(
                sizes, both(kernel), both(stride), both(dilate), both(target), strict=True
            )
        ]
        return tuple((each + 1) // 2 for each in spare), tuple(each % 2 for each in spare)

    def compute(x: Array, weight: Array, bias: Array | None = None) -> Array:
        padding, added = edges(x.shape[2:])
        return transpose_convolve(
            x,
            weight,
            bias,
            stride=both(stride),
            padding=padding,
            added=added,
            dilation=both(dilate),
            groups=groups,
        )

    inputs = ", ".join(["{0}", "{1}", "{2}" if len(roles) > 1 else "None"])
    options = f"size={both(target)}, stride={both(stride)}, dilation={both(dilate)}, groups={groups}"
    return Operation(
        kind=f"{MXNET}Deconvolution",
        roles=roles,
        code=Code(f"deconvolve_to({inputs}, {options})", helpers=("deconvolve_to",)),
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
        bias_axis=1 if flatten else -1,
    )


def both(size: int | tuple[int, ...]) -> Axes:
    """Return (height, width) of a size that may be one number for both."""
    return size if isinstance(size, tuple) else (size, size)


def one(size: Axes) -> int | Axes:
    """Return the number of a size that is the same along all axes, else the size."""
    return size[0] if len(set(size)) == 1 else size


def _changed(given: Arguments, usual: Arguments) -> Arguments:
    """Return the arguments that are not PyTorch's defaults."""
    return {key: value for key, value in given.items() if value != usual[key]}


def _functional(function: str, roles: tuple[str, ...], options: Mapping[str, Argument]) -> str:
    inputs = ["{0}", "{1}", "{2}"][: 1 + len(roles)]
    return f"{function}({', '.join([*inputs, *(f'{key}={value!r}' for key, value in options.items())])})"
