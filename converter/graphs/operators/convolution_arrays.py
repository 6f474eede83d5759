"""Convolutions on arrays, as sums of matrix products over the positions in the kernel."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.operators.attributes import Axes


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
