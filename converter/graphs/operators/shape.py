"""Operators that move elements without changing them: reshaping, transposing, joining, padding.

Source: src/operator/tensor/matrix_op-inl.h, src/operator/nn/concat-inl.h, src/operator/{pad,swapaxis}-inl.h,
src/operator/tensor/broadcast_reduce_op.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes
from converter.graphs.operators.code import Code
from converter.graphs.operators.kinds import FLATTEN
from converter.graphs.operators.registry import operator, other, refuse
from converter.graphs.operators.reshaping import Reshaping

if TYPE_CHECKING:
    from converter.dtypes import Array

FLAT_RANK = 2
PAIR = 2  # a border before and after


@operator("Flatten", "flatten")
def _flatten() -> Operation:
    return Operation(
        kind=FLATTEN,
        code=Code("{0}.flatten(1)"),
        compute=lambda x: x.reshape(len(x), -1),
        rank=FLAT_RANK,
    )


@operator("Reshape", "reshape")
def _reshape(
    *, shape: Axes = (), reverse: bool = False, target_shape: Axes = (), keep_highest: bool = False
) -> Operation:
    if not shape:
        return refuse("Reshape", "target_shape is not supported")
    reshaping = Reshaping(shape, reverse=reverse)
    if reshaping.refused:
        return refuse("Reshape", reshaping.refused)
    code = Code(reshaping.expression())
    return other("Reshape", code, lambda x: x.reshape(reshaping.apply(x.shape)), rank=reshaping.rank)


@operator("reshape_like")
def _reshape_like(
    *,
    lhs_begin: int | None = None,
    lhs_end: int | None = None,
    rhs_begin: int | None = None,
    rhs_end: int | None = None,
) -> Operation:
    def compute(x: Array, like: Array) -> Array:
        end = x.ndim if lhs_end is None else lhs_end
        return x.reshape(x.shape[: lhs_begin or 0] + like.shape[rhs_begin:rhs_end] + x.shape[end:])

    text = "{1}.shape"
    if (lhs_begin, lhs_end, rhs_begin, rhs_end) != (None,) * 4:
        before = [f"*{{0}}.shape[:{lhs_begin}]"] if lhs_begin else []
        after = [f"*{{0}}.shape[{lhs_end}:]"] if lhs_end is not None else []
        middle = "".join("" if each is None else str(each) for each in (rhs_begin,))
        end = "" if rhs_end is None else str(rhs_end)
        text = ", ".join([*before, f"*{{1}}.shape[{middle}:{end}]", *after])
    code = Code(f"{{0}}.reshape({text})")
    return other("reshape_like", code, compute, data_inputs=2, shapes_only=(1,))


@operator("transpose")
def _transpose(*, axes: Axes = ()) -> Operation:
    expression = (
        f"{{0}}.permute({', '.join(map(str, axes))})" if axes else "{0}.permute(*range({0}.dim())[::-1])"
    )
    return other(
        "transpose",
        Code(expression),
        lambda x: x.transpose(axes or None),
        rank=len(axes) or None,
        keeps_rank=True,
    )


@operator("SwapAxis", "swapaxes")
def _swap_axes(*, dim1: int = 0, dim2: int = 0) -> Operation:
    code = Code(f"{{0}}.transpose({dim1}, {dim2})")
    return other("SwapAxis", code, lambda x: x.swapaxes(dim1, dim2), keeps_rank=True)


@operator("expand_dims")
def _expand_dims(*, axis: int) -> Operation:
    return other("expand_dims", Code(f"{{0}}.unsqueeze({axis})"), lambda x: np.expand_dims(x, axis))


@operator("squeeze")
def _squeeze(*, axis: Axes | None = None) -> Operation:
    if axis is None:
        code = Code("torch.atleast_1d({0}.squeeze())")
    else:
        code = Code(f"{{0}}.squeeze({axis[0] if len(axis) == 1 else axis})", removed_axes=len(axis))
    return other("squeeze", code, lambda x: np.atleast_1d(x.squeeze(axis)))


@operator("Concat", "concat")
def _concat(*, num_args: int, dim: int = 1) -> Operation:
    return other(
        "Concat",
        Code(f"torch.cat([{{inputs}}], {dim})"),
        lambda *arrays: np.concatenate(arrays, dim),
        data_inputs=num_args,
        keeps_rank=True,
    )


@operator("stack")
def _stack(*, num_args: int, axis: int = 0) -> Operation:
    return other(
        "stack",
        Code(f"torch.stack([{{inputs}}], {axis})"),
        lambda *arrays: np.stack(arrays, axis),
        data_inputs=num_args,
    )


@operator("Pad", "pad")
def _pad(
    *, mode: Literal["constant", "edge", "reflect"], pad_width: Axes, constant_value: float = 0.0
) -> Operation:
    if len(pad_width) % PAIR or any(pad_width[: 2 * PAIR]):
        return refuse("Pad", "pad_width does not leave the first two axes as they are", data_inputs=1)
    borders = tuple(zip(pad_width[::PAIR], pad_width[1::PAIR], strict=True))
    sides = tuple(side for border in reversed(borders[2:]) for side in border)
    torch_mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}[mode]
    options = f', mode="{torch_mode}"' if mode != "constant" else f", value={constant_value!r}"
    code = Code(f"F.pad({{0}}, {sides}{'' if mode == 'constant' and not constant_value else options})")

    def compute(x: Array) -> Array:
        if mode == "constant":
            return np.pad(x, borders, constant_values=constant_value)
        return np.pad(x, borders, mode=mode)

    return other("Pad", code, compute, rank=len(borders), keeps_rank=True)


@operator("tile")
def _tile(*, reps: Axes) -> Operation:
    return other("tile", Code(f"{{0}}.tile({reps})"), lambda x: np.tile(x, reps))


@operator("repeat")
def _repeat(*, repeats: int, axis: int | None = None) -> Operation:
    tail = "" if axis is None else f", {axis}"
    code = Code(f"{{0}}.repeat_interleave({repeats}{tail})")
    return other("repeat", code, lambda x: np.repeat(x, repeats, axis))


@operator("reverse", "flip")
def _reverse(*, axis: Axes) -> Operation:
    return other("reverse", Code(f"{{0}}.flip({axis})"), lambda x: np.flip(x, axis), keeps_rank=True)


@operator("broadcast_to")
def _broadcast_to(*, shape: Axes = ()) -> Operation:
    sizes = tuple(size or -1 for size in shape)  # 0 keeps a size, which is PyTorch's -1

    def compute(x: Array) -> Array:
        return np.broadcast_to(x, [size or old for size, old in zip(shape, x.shape, strict=True)])

    return other("broadcast_to", Code(f"{{0}}.expand({sizes})"), compute, keeps_rank=True)


@operator("broadcast_like")
def _broadcast_like(*, lhs_axes: Axes | None = None, rhs_axes: Axes | None = None) -> Operation:
    if lhs_axes and rhs_axes:
        sizes = "".join(f"{{1}}.shape[{axis}], " for axis in rhs_axes)
        code = Code(f"expand_axes({{0}}, {lhs_axes}, ({sizes.strip()}))", helpers=("expand_axes",))

        def compute(x: Array, like: Array) -> Array:
            return _expanded(x, lhs_axes, tuple(like.shape[axis] for axis in rhs_axes))

        return other("broadcast_like", code, compute, data_inputs=2, shapes_only=(1,))
    code = Code("{0}.expand_as({1})")
    return other(
        "broadcast_like",
        code,
        lambda x, y: np.broadcast_to(x, y.shape),
        data_inputs=2,
        keeps_rank=True,
        shapes_only=(1,),
    )


@operator("broadcast_axis", "broadcast_axes")
def _broadcast_axis(*, axis: Axes = (), size: Axes = ()) -> Operation:
    if len(axis) != len(size):
        return refuse("broadcast_axis", "axis and size have different lengths", data_inputs=1)
    code = Code(f"expand_axes({{0}}, {axis}, {size})", helpers=("expand_axes",))
    return other("broadcast_axis", code, lambda x: _expanded(x, axis, size), keeps_rank=True)


def _expanded(x: Array, axes: Axes, sizes: Axes) -> Array:
    """Repeat axes of size 1."""
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return np.broadcast_to(x, shape)


@operator("depth_to_space")
def _depth_to_space(*, block_size: int) -> Operation:
    def compute(x: Array) -> Array:
        n, channels, height, width = x.shape
        y = x.reshape(n, block_size, block_size, channels // block_size**2, height, width)
        return y.transpose(0, 3, 4, 1, 5, 2).reshape(n, -1, height * block_size, width * block_size)

    code = Code(
        f"{{0}}.unflatten(1, ({block_size}, {block_size}, -1))"
        ".permute(0, 3, 4, 1, 5, 2).flatten(2, 3).flatten(3, 4)"
    )
    return other("depth_to_space", code, compute, keeps_rank=True)


@operator("space_to_depth")
def _space_to_depth(*, block_size: int) -> Operation:
    def compute(x: Array) -> Array:
        n, channels, height, width = x.shape
        y = x.reshape(n, channels, height // block_size, block_size, width // block_size, block_size)
        return y.transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, height // block_size, width // block_size)

    code = Code(
        f"{{0}}.unflatten(3, (-1, {block_size})).unflatten(2, (-1, {block_size}))"
        ".permute(0, 3, 5, 1, 2, 4).flatten(1, 3)"
    )
    return other("space_to_depth", code, compute, keeps_rank=True)
