"""Pooling.

Source: src/operator/nn/pooling-inl.h, src/operator/nn/pool.h, src/operator/pooling_v1-inl.h,
src/operator/contrib/adaptive_avg_pooling-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Pair, Size
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.convolution import both
from converter.graphs.operators.kinds import POOLING
from converter.graphs.operators.registry import MXNET, operator, other_axes, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.graph import Value
    from converter.graphs.operators.code import Arguments, Compute

IMAGE_RANK = 4
IMAGE_AXES = 2
CHANNEL_AXES = 2  # n and channels
LAYOUTS = {1: "NCW", 3: "NCDHW"}


def _global(pool: str, layout: str = "NCHW", axes: int = 2) -> Operation:
    """Return the pooling of each channel to one element."""
    dims = tuple(range(CHANNEL_AXES, CHANNEL_AXES + axes))
    functions: dict[str, tuple[str, Compute]] = {
        "max": ("amax", np.max),
        "avg": ("mean", np.mean),
        "sum": ("sum", np.sum),
    }
    torch_name, reduce = functions.get(pool, ("", np.mean))

    def compute(x: Array) -> Array:
        y: Array = reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True)
        return y

    expression = f"{{0}}.{torch_name}({dims}, keepdim=True)"
    refused = "layout is not NCHW" if layout != "NCHW" else "" if torch_name else "pool_type is not supported"
    layer = None
    if pool == "avg":
        layer = TorchLayer(type=f"nn.AdaptiveAvgPool{axes}d", arguments=lambda _: {"_size": 1})
    return Operation(
        kind=POOLING,
        settings={"global": True, "pool": pool, "layout": layout},
        code=None if refused else Code(expression, layer),
        compute=compute,
        refused=refused,
        input_rank=IMAGE_RANK,
        rank=IMAGE_RANK,
    )


GLOBAL_AVERAGE = _global("avg")


@operator("Pooling", "_npx_pooling")
def _pooling(
    *,
    kernel: Pair = 1,
    pool_type: str = "max",
    global_pool: bool = False,
    pooling_convention: str = "valid",
    stride: Pair = 1,
    pad: Pair = 0,
    count_include_pad: bool = True,
    layout: str = "NCHW",
    p_value: int = 0,
    cudnn_off: bool = False,
) -> Operation:
    if global_pool:  # the other attributes are ignored
        return _global(pool_type, layout)
    settings: dict[str, Value] = {
        "global": False,
        "pool": pool_type,
        "layout": layout,
        "kernel": kernel,
        "stride": stride,
        "padding": pad,
        "ceil_mode": {"valid": False, "full": True}.get(pooling_convention, pooling_convention),
    }
    if pool_type == "avg":
        settings["count_include_pad"] = count_include_pad
    if pool_type == "lp":
        settings["p_value"] = p_value
    window = PoolWindow(both(kernel), both(stride), both(pad), ceil=pooling_convention == "full")
    refused = _refusal(pool_type, layout, pooling_convention)
    code = None if refused else _code(window, pool_type, count_include_pad=count_include_pad)

    def compute(x: Array) -> Array:
        return window.pool(x, pool_type, count_include_pad=count_include_pad)

    return Operation(
        kind=POOLING,
        settings=settings,
        code=code,
        compute=compute,
        refused=refused,
        input_rank=IMAGE_RANK,
        rank=IMAGE_RANK,
    )


@other_axes("Pooling")
def _pooling_of_other_axes(
    *,
    kernel: Axes,
    pool_type: str = "max",
    global_pool: bool = False,
    pooling_convention: str = "valid",
    stride: Axes = (),
    pad: Axes = (),
    count_include_pad: bool = True,
    layout: str = "",
    p_value: int = 0,
    cudnn_off: bool = False,
) -> Operation:
    count = len(kernel)
    if count not in LAYOUTS or layout not in {"", LAYOUTS[count]}:
        return refuse("Pooling", "layout is not NCW or NCDHW", data_inputs=1)
    if global_pool:
        operation = _global(pool_type, axes=count)
    else:
        window = PoolWindow(
            kernel, stride or (1,) * count, pad or (0,) * count, ceil=pooling_convention == "full"
        )
        refused = _refusal(pool_type, "NCHW", pooling_convention)
        if not refused and not window.is_torch:
            refused = "pooling_convention is full, and the windows do not overlap"

        def compute(x: Array) -> Array:
            return window.pool(x, pool_type, count_include_pad=count_include_pad)

        operation = Operation(
            kind="",
            code=None if refused else _code(window, pool_type, count_include_pad=count_include_pad),
            compute=compute,
            refused=refused,
        )
    rank = count + CHANNEL_AXES
    return replace(operation, kind=f"{MXNET}Pooling", settings={}, input_rank=rank, rank=rank)


@operator("Pooling_v1")
def _pooling_v1(
    *,
    kernel: Pair = 1,
    pool_type: str = "max",
    global_pool: bool = False,
    pooling_convention: str = "valid",
    stride: Pair = 1,
    pad: Pair = 0,
) -> Operation:
    # An average divides by the whole kernel's size, including padding and positions beyond it.
    operation = _pooling(
        kernel=kernel,
        pool_type=pool_type,
        global_pool=global_pool,
        pooling_convention=pooling_convention,
        stride=stride,
        pad=pad,
        count_include_pad=True,
    )
    if pool_type == "avg" and pooling_convention == "full" and not global_pool:
        return replace(operation, code=None, refused="pool_type avg with pooling_convention full")
    return operation


@operator("_contrib_AdaptiveAvgPooling2D")
def _adaptive_average_pooling(*, output_size: Size = 1) -> Operation:
    if output_size == 1:
        return GLOBAL_AVERAGE

    def compute(x: Array) -> Array:
        rows, columns = (
            _parts(size, count) for size, count in zip(x.shape[2:], both(output_size), strict=True)
        )
        return np.stack(
            [np.stack([x[:, :, r, c].mean((2, 3)) for c in columns], axis=-1) for r in rows], axis=-2
        )

    return Operation(
        kind="adaptive average pooling",
        settings={"output_size": output_size},
        code=Code(layer=TorchLayer(type="nn.AdaptiveAvgPool2d", arguments=lambda _: {"_size": output_size})),
        compute=compute,
        input_rank=IMAGE_RANK,
        rank=IMAGE_RANK,
    )


class PoolWindow:
    """The windows of a pool.

    Args:
        kernel: their size.
        stride: the distance between them.
        padding: the elements added to each side.
        ceil: whether a last, incomplete window counts, even if it lies wholly in the padding.
    """

    def __init__(self, kernel: Axes, stride: Axes, padding: Axes, *, ceil: bool) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.ceil = ceil

    @property
    def is_torch(self) -> bool:
        """Whether no window begins in the padding on the far side, which PyTorch leaves out."""
        edges = zip(self.kernel, self.stride, self.padding, strict=True)
        return not self.ceil or all(width >= stride + edge for width, stride, edge in edges)

    def pool(self, x: Array, kind: str, *, count_include_pad: bool) -> Array:
        """Pool (n, channels, h, w)."""
        counts = [self._count(size, axis) for axis, size in enumerate(x.shape[2:])]
        lowest = -np.finfo(x.dtype).max
        borders = [(0, 0), (0, 0)]
        for axis, (size, count) in enumerate(zip(x.shape[2:], counts, strict=True)):
            edge = self.padding[axis]
            end = (count - 1) * self.stride[axis] + self.kernel[axis]
            borders.append((edge, max(0, end - size - edge)))
        y = np.pad(x, borders, constant_values=lowest if kind == "max" else 0)
        parts = (
            y[:, :, *self._window(place, counts)] for place in itertools.product(*map(range, self.kernel))
        )
        total = next(parts).copy()
        for part in parts:
            (np.maximum if kind == "max" else np.add)(total, part, out=total)
        if kind == "avg":
            sizes = [
                self._sizes(size, count, axis, include_pad=count_include_pad)
                for axis, (size, count) in enumerate(zip(x.shape[2:], counts, strict=True))
            ]
            elements = functools.reduce(np.multiply.outer, sizes).astype(x.dtype)
            total /= np.where(elements == 0, 1, elements)
        return total

    def _count(self, size: int, axis: int) -> int:
        space = size + 2 * self.padding[axis] - self.kernel[axis]
        return (-(-space // self.stride[axis]) if self.ceil else space // self.stride[axis]) + 1

    def _window(self, place: tuple[int, ...], counts: list[int]) -> tuple[slice, ...]:
        return tuple(
            slice(at, at + stride * (count - 1) + 1, stride)
            for at, stride, count in zip(place, self.stride, counts, strict=True)
        )

    def _sizes(self, size: int, count: int, axis: int, *, include_pad: bool) -> Array:
        """Return the number of elements of each window along an axis; the far padding is limited."""
        begin = np.arange(count) * self.stride[axis] - self.padding[axis]
        end = np.minimum(begin + self.kernel[axis], size + self.padding[axis])
        sizes: Array = end - begin if include_pad else np.minimum(end, size) - np.maximum(begin, 0)
        return sizes


def _refusal(pool: str, layout: str, convention: str) -> str:
    if layout != "NCHW":
        return "layout is not NCHW"
    if pool not in {"max", "avg", "sum"}:
        return "pool_type is not max, avg or sum"
    return "" if convention in {"valid", "full"} else "pooling_convention is not valid or full"


def _code(window: PoolWindow, pool: str, *, count_include_pad: bool) -> Code | None:
    kernel, stride, padding = (
        size[0] if len(set(size)) == 1 else size for size in (window.kernel, window.stride, window.padding)
    )
    if {*window.kernel, *window.stride} == {1} and not padding:
        return Code("{0}")  # the pools of ResNet-D's first stage
    if not window.is_torch:
        if len(window.kernel) != IMAGE_AXES:
            return None
        helper = f"{pool}_pool"
        sizes = f"{window.kernel}, {window.stride}, {window.padding}"
        include = f", count_include_pad={count_include_pad}" if pool == "avg" else ""
        return Code(f"{helper}({{0}}, {sizes}{include})", helpers=(helper,))
    options: Arguments = {"_kernel": kernel, "_stride": stride}
    options |= {"padding": padding} if padding else {}
    options |= {"ceil_mode": True} if window.ceil else {}
    if pool == "avg" and not count_include_pad and padding:
        options["count_include_pad"] = False
    if pool == "sum":
        options["divisor_override"] = 1
    layer_type = f"nn.{'Max' if pool == 'max' else 'Avg'}Pool{len(window.kernel)}d"
    return Code(layer=TorchLayer(type=layer_type, arguments=lambda _: options))


def _parts(size: int, count: int) -> list[slice]:
    """Divide an axis into parts that may overlap, as adaptive pooling does."""
    return [slice(at * size // count, -(-(at + 1) * size // count)) for at in range(count)]
