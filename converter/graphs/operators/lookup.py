"""Lookups by index: embeddings, rows and elements. An index is truncated, then limited to the axis.

Source: src/operator/tensor/indexing_op.h, src/operator/tensor/broadcast_reduce_op.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.elementwise import FLOATS, INTEGERS
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from converter.dtypes import Array


@operator("Embedding")
def _embedding(
    *, input_dim: int, output_dim: int, dtype: str = "float32", sparse_grad: bool = False
) -> Operation:
    index = f"{{0}}.long().clamp(0, {input_dim - 1})"
    layer = TorchLayer(
        type="nn.Embedding",
        arguments=lambda _: {"_rows": input_dim, "_columns": output_dim},
        tensors={"weight": "weight"},
        applied=f"{{layer}}({index})",
    )

    def compute(x: Array, weight: Array) -> Array:
        return weight[np.clip(x.astype(np.int64), 0, input_dim - 1)]

    code = Code(f"F.embedding({index}, {{1}})", layer)
    return other("Embedding", code, compute, roles=("weight",), integers=(), index_input=0)


@operator("take")
def _take(*, axis: int = 0, mode: Literal["clip", "raise", "wrap"] = "clip") -> Operation:
    if mode == "raise":
        return refuse("take", "mode is raise", data_inputs=2)
    code = Code(f"take({{0}}, {{1}}, axis={axis}, wrap={mode == 'wrap'})", helpers=("take",))
    return other("take", code, lambda x, index: _taken(x, index, axis, mode), data_inputs=2, index_input=1)


def _taken(x: Array, index: Array, axis: int, mode: Literal["clip", "wrap"]) -> Array:
    """Return the elements at indices that are truncated and then limited or wrapped."""
    return np.take(x, index.astype(np.int64), axis, mode=mode)


@operator("pick", "choose_element_0index")
def _pick(
    *, axis: int | None = -1, keepdims: bool = False, mode: Literal["clip", "wrap"] = "clip"
) -> Operation:
    if axis is None:
        return refuse("pick", "axis is None", data_inputs=2)

    def compute(x: Array, index: Array) -> Array:
        size = x.shape[axis]
        whole = np.trunc(index).astype(np.int64)
        whole = whole % size if mode == "wrap" else whole.clip(0, size - 1)
        whole = whole.reshape([1 if at == axis % x.ndim else size for at, size in enumerate(x.shape)])
        y = np.take_along_axis(x, whole, axis)
        return y if keepdims else np.atleast_1d(y.squeeze(axis))

    code = Code(
        f"pick({{0}}, {{1}}, axis={axis}, keepdims={keepdims}, wrap={mode == 'wrap'})",
        helpers=("pick",),
        removed_axes=not keepdims,
    )
    return other("pick", code, compute, data_inputs=2, index_input=1)


@operator("batch_take")
def _batch_take() -> Operation:
    def compute(x: Array, index: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        places = index.astype(np.int64).reshape(-1).clip(0, rows.shape[1] - 1)
        chosen: Array = rows[np.arange(len(rows)), places].reshape(index.shape)
        return chosen

    code = Code("pick({0}, {1}, axis=-1, keepdims=False, wrap=False)", helpers=("pick",))
    return other("batch_take", code, compute, data_inputs=2, index_input=1)


@operator("gather_nd")
def _gather_nd() -> Operation:
    def compute(x: Array, index: Array) -> Array:
        chosen: Array = x[tuple(index.astype(np.int64))]
        return chosen

    return other("gather_nd", Code("{0}[tuple({1}.long())]"), compute, data_inputs=2)


@operator("one_hot")
def _one_hot(
    *, depth: int, on_value: float = 1.0, off_value: float = 0.0, dtype: str = "float32"
) -> Operation:
    if dtype not in FLOATS | INTEGERS:
        return refuse("one_hot", f"dtype is {dtype}", data_inputs=1)
    target = f"torch.{dtype}" if dtype in INTEGERS else "{0}.dtype"
    chosen = f"{{0}}.long().unsqueeze(-1) == torch.arange({depth}, device={{0}}.device)"
    values = [f"torch.tensor({value!r}, dtype={target})" for value in (on_value, off_value)]
    code = Code(f"torch.where({chosen}, {', '.join(values)})")
    if (on_value, off_value) == (1, 0):
        code = Code(f"({chosen}).to({target})")
    code = replace(code, on_integers=code.expression.replace("{0}.dtype", "torch.get_default_dtype()"))

    def compute(x: Array) -> Array:
        y = np.where(x.astype(np.int64)[..., None] == np.arange(depth), on_value, off_value)
        if dtype in INTEGERS:
            return y.astype(dtype)
        return y.astype(x.dtype if np.issubdtype(x.dtype, np.floating) else np.float32)

    return other("one_hot", code, compute, integers=(0,) if dtype in INTEGERS else (), index_input=0)
