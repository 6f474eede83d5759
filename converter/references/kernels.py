"""Implements the layers of GluonCV's networks in NumPy, in the dtype of their input.

Images are (n, c, h, w). Convolutions process a few rows at a time, which limits memory to that of a few
layers.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from converter.dtypes import Array

UNFOLDED_ELEMENTS = 1 << 21  # in memory at once, of a convolution's input or a dense layer's weight


def conv(  # noqa: PLR0913 - the hyper-parameters of a convolution
    x: Array, weight: Array, *, stride: int, padding: int, groups: int, dilation: int = 1
) -> Array:
    """Compute a grouped, dilated convolution (cross-correlation).

    Shape:
        x: (n, groups · c, h, w)
        weight: (outputs, c, kernel, kernel)
        output: (n, outputs, h', w')
    """
    kernel = weight.shape[-1]
    folded = weight.reshape(groups, -1, weight[0].size).astype(
        x.dtype
    )  # (groups, outputs / groups, c · k · k)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    span = dilation * (kernel - 1) + 1
    windows = sliding_window_view(x, (1, 1, span, span))[:, :, ::stride, ::stride, 0, 0]
    windows = windows[..., ::dilation, ::dilation]
    n, channels, h, w = windows.shape[:4]
    out = np.empty((n, groups, folded.shape[1], h, w), x.dtype)
    rows = max(1, UNFOLDED_ELEMENTS // (n * channels * kernel * kernel * w))
    for top in range(0, h, rows):
        block = windows[:, :, top : top + rows].transpose(0, 1, 4, 5, 2, 3)  # (n, channels, k, k, rows, w)
        unfolded = block.reshape(n, groups, folded.shape[2], -1)
        out[:, :, :, top : top + rows] = (folded @ unfolded).reshape(n, groups, folded.shape[1], -1, w)
    return out.reshape(n, -1, h, w)


def batch_norm(x: Array, *statistics: Array, eps: float) -> Array:
    """Normalise each channel.

    Args:
        x: (n, c, h, w)
        statistics: gamma, beta, mean and variance, (c,) each.
        eps: added to the variance.
    """
    gamma, beta, mean, variance = (array.astype(x.dtype).reshape(-1, 1, 1) for array in statistics)
    x = (x - mean) * (gamma / np.sqrt(variance + x.dtype.type(eps)))
    x += beta
    return x


def max_pool(x: Array, *, kernel: int, stride: int, padding: int, ceil: bool) -> Array:
    """Return the maximum of each window; ``ceil`` includes a last, incomplete window."""
    return _pool(x, kernel, stride, padding, fill=-np.inf, ceil=ceil, join=np.maximum)


def average_pool(x: Array, *, stride: int) -> Array:
    """Average windows of the stride's size; a last, incomplete window averages the elements it has."""
    total = _pool(x, stride, stride, 0, fill=0, ceil=True, join=np.add)
    count = _pool(np.ones_like(x[:1, :1]), stride, stride, 0, fill=0, ceil=True, join=np.add)
    out: Array = total / count
    return out


def dense(x: Array, weight: Array, bias: Array) -> Array:
    """Compute a dense layer.

    Shape:
        x: (n, c)
        weight: (outputs, c)
        bias: (outputs,)
        output: (n, outputs)
    """
    out = np.empty((len(x), len(weight)), x.dtype)
    rows = max(1, UNFOLDED_ELEMENTS // x.shape[1])
    for begin in range(0, len(weight), rows):  # avoids a float64 copy of a head with 100,000 classes
        block = slice(begin, begin + rows)
        out[:, block] = x @ weight[block].astype(x.dtype).T + bias[block].astype(x.dtype)
    return out


def relu(x: Array) -> Array:
    """Replace negative values with 0."""
    out: Array = np.maximum(x, 0)
    return out


def sigmoid(x: Array) -> Array:
    """Compute the logistic function, element by element."""
    out: Array = 1 / (1 + np.exp(-x))
    return out


def global_mean(x: Array) -> Array:
    """Average each channel.

    Shape:
        (n, c, h, w) → (n, c, 1, 1)
    """
    out: Array = x.mean(axis=(2, 3), keepdims=True)
    return out


def _pool(  # noqa: PLR0913 - the hyper-parameters of a pool
    x: Array, kernel: int, stride: int, padding: int, *, fill: float, ceil: bool, join: np.ufunc
) -> Array:
    sizes = [size + 2 * padding - kernel for size in x.shape[2:]]
    h, w = (-(-size // stride) + 1 if ceil else size // stride + 1 for size in sizes)
    beyond = [max(0, stride * (out - 1) - size) for out, size in zip((h, w), sizes, strict=True)]
    borders = [(0, 0), (0, 0), *((padding, padding + more) for more in beyond)]
    x = np.pad(x, borders, constant_values=fill)
    shifted = (
        x[:, :, top : top + stride * (h - 1) + 1 : stride, left : left + stride * (w - 1) + 1 : stride]
        for top, left in itertools.product(range(kernel), repeat=2)
    )
    out = next(shifted).copy()
    for other in shifted:
        join(out, other, out=out)
    return out
