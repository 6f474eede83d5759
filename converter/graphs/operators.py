"""Parses the attributes of MXNet operators into operations, for the operators of the supported networks.

The keyword parameters of a function are the operator's schema: MXNet's attribute names, types and
defaults. An attribute that is not in the signature is an error, as in MXNet. Attributes that have no
effect at inference, such as ``momentum``, are in the signature but unused.

Sources: src/operator/nn/{convolution,batch_norm,pooling,fully_connected,dropout,softmax}-inl.h,
src/operator/{batch_norm_v1,pooling_v1,softmax_output,leaky_relu}-inl.h,
src/operator/numpy/np_broadcast_reduce_op.h and src/operator/contrib/{sync_batch_norm,
adaptive_avg_pooling}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from typing import TYPE_CHECKING

from converter.graphs.graph import CAST, Operation, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The kinds of operation in the supported networks. The kind of an unsupported operator is its name in
# MXNet with the prefix UNSUPPORTED, so that it never equals one of these.
UNSUPPORTED = "MXNet's "
CONVOLUTION, BATCH_NORM, POOLING, DENSE = "convolution", "BatchNorm", "pooling", "dense"
ADD, MULTIPLY, RELU, SIGMOID = "sum", "product", "ReLU", "sigmoid"
SOFTMAX, FLATTEN, IDENTITY, DROPOUT = "softmax", "flatten", "identity", "dropout"

FLOATS = {"float16", "float32", "float64", "bfloat16"}

Size = int | tuple[int, ...]  # one number for height and width, or one for each
Pair = int | tuple[int, int]  # the same; MXNet infers from two numbers that the input is an image
Axes = tuple[int, ...]

DEFAULT_EPS = 0.0010000000474974513  # MXNet's default is 1e-3 in float32
MAX_VALUE_CHARACTERS = 100
IMAGE_AXES = 2  # height and width
ACTIVATIONS = {
    "relu": RELU,
    "sigmoid": SIGMOID,
    "tanh": "tanh",
    "softrelu": "softplus",
    "softsign": "softsign",
}

# Operators that MXNet does not compute in float64, or only with a lower precision.
NO_FLOAT64 = {"BatchNorm_v1", "CuDNNBatchNorm", "Pooling_v1", "_contrib_SyncBatchNorm"}
GLOBAL_AVERAGE = Operation(kind=POOLING, settings={"global": True, "pool": "avg", "layout": "NCHW"})

_SCHEMAS: dict[str, Callable[..., Operation]] = {}


def parse(operator: str, attributes: Mapping[str, str]) -> Operation:
    """Return the operation of an operator with the attributes of a symbol file.

    The attributes of an unsupported operator are not parsed.

    Raises:
        ValueError: if an attribute is unknown, missing or malformed; the message names it.
    """
    schema = _SCHEMAS.get(operator)
    if schema is None:
        return Operation(kind=f"{UNSUPPORTED}{operator}", data_inputs=None, settings=dict(attributes))
    fields = _fields(schema)
    if unknown := sorted(attributes.keys() - fields.keys()):
        raise ValueError(f"{operator} has no attribute {unknown[0]!r}")
    values = {key: _value(key, text, fields[key]) for key, text in attributes.items()}
    arguments = {key: value for key, value in values.items() if value is not None}
    required = [key for key, (_, default) in fields.items() if default is inspect.Parameter.empty]
    if missing := [key for key in required if key not in arguments]:
        raise ValueError(f"{operator} requires the attribute {missing[0]!r}")
    return schema(**arguments)


def schemas() -> dict[str, frozenset[str]]:
    """Return the attributes of every supported operator, by MXNet's names."""
    return {name: frozenset(_fields(schema)) for name, schema in _SCHEMAS.items()}


def _operator(*names: str) -> Callable[[Callable[..., Operation]], Callable[..., Operation]]:
    """Register a function as the schema of an operator, under MXNet's names."""

    def register(schema: Callable[..., Operation]) -> Callable[..., Operation]:
        _SCHEMAS.update(dict.fromkeys(names, schema))
        return schema

    return register


@_operator("Convolution", "Convolution_v1", "_npx_convolution")
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
    return Operation(
        kind=CONVOLUTION, roles=("weight",) if no_bias else ("weight", "bias"), settings=settings
    )


@_operator("FullyConnected", "_npx_fully_connected")
def _fully_connected(*, num_hidden: int, no_bias: bool = False, flatten: bool = True) -> Operation:
    return Operation(
        kind=DENSE,
        roles=("weight",) if no_bias else ("weight", "bias"),
        settings={"outputs": num_hidden, "flatten": flatten},
    )


@_operator("BatchNorm", "_npx_batch_norm")
def _batch_norm(
    *,
    eps: float = DEFAULT_EPS,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
    cudnn_off: bool = False,
    min_calib_range: float = 0.0,
    max_calib_range: float = 0.0,
) -> Operation:
    return Operation(
        kind=BATCH_NORM,
        roles=("gamma", "beta", "running_mean", "running_var"),
        settings={"eps": eps, "axis": axis},
        fix_gamma=fix_gamma,
    )


@_operator("_contrib_SyncBatchNorm")
def _sync_batch_norm(
    *,
    key: str,
    eps: float = DEFAULT_EPS,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    ndev: int = 1,
) -> Operation:
    return _batch_norm(eps=eps, fix_gamma=fix_gamma)


@_operator("BatchNorm_v1", "CuDNNBatchNorm")
def _batch_norm_v1(
    *,
    eps: float = DEFAULT_EPS,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
) -> Operation:
    return _batch_norm(eps=eps, fix_gamma=fix_gamma)


@_operator("Pooling", "_npx_pooling")
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
        return Operation(kind=POOLING, settings={"global": True, "pool": pool_type, "layout": layout})
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
    return Operation(kind=POOLING, settings=settings)


@_operator("Pooling_v1")
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
    return _pooling(
        kernel=kernel,
        pool_type=pool_type,
        global_pool=global_pool,
        pooling_convention=pooling_convention,
        stride=stride,
        pad=pad,
        count_include_pad=True,
    )


@_operator("_contrib_AdaptiveAvgPooling2D")
def _adaptive_average_pooling(*, output_size: Size = 1) -> Operation:
    if output_size == 1:
        return GLOBAL_AVERAGE
    return Operation(kind="adaptive average pooling", settings={"output_size": output_size})


@_operator("mean")
def _mean(*, axis: Axes = (), keepdims: bool = False, exclude: bool = False) -> Operation:
    if keepdims and not exclude and axis in {(2, 3), (-2, -1)}:
        return GLOBAL_AVERAGE
    return Operation(kind="mean", settings={"axis": axis, "keepdims": keepdims, "exclude": exclude})


@_operator("_npi_mean")
def _numpy_mean(*, axis: Axes = (), keepdims: bool = False, dtype: str = "", initial: str = "") -> Operation:
    if dtype or initial:
        return Operation(kind="mean", settings={"axis": axis, "dtype": dtype, "initial": initial})
    return _mean(axis=axis, keepdims=keepdims)


@_operator("Activation", "_npx_activation")
def _activation(*, act_type: str) -> Operation:
    if act_type not in ACTIVATIONS:
        raise ValueError(f"act_type has the unknown value {act_type!r}")
    return Operation(kind=ACTIVATIONS[act_type])


@_operator("relu", "_npx_relu")
def _relu() -> Operation:
    return Operation(kind=RELU)


@_operator("sigmoid", "_npx_sigmoid")
def _sigmoid() -> Operation:
    return Operation(kind=SIGMOID)


@_operator("elemwise_add", "broadcast_add", "broadcast_plus", "_Plus", "_plus", "_add", "_npi_add")
def _add() -> Operation:
    return Operation(kind=ADD, data_inputs=2)


# Operators without broadcasting (elemwise_mul, _Mul) cannot scale channels by (n, c, 1, 1).
@_operator("broadcast_mul", "_npi_multiply")
def _multiply() -> Operation:
    return Operation(kind=MULTIPLY, data_inputs=2)


@_operator("softmax", "_npx_softmax")
def _softmax(
    *, axis: int = -1, temperature: float = 1.0, use_length: bool = False, dtype: str = ""
) -> Operation:
    settings: dict[str, Value] = {"axis": axis, "temperature": temperature, "use_length": use_length}
    return Operation(kind=SOFTMAX, settings=settings | ({"dtype": dtype} if dtype else {}))


@_operator("SoftmaxOutput", "Softmax")
def _softmax_output(
    *,
    multi_output: bool = False,
    preserve_shape: bool = False,
    grad_scale: float = 1.0,
    ignore_label: float = -1.0,
    use_ignore: bool = False,
    normalization: str = "null",
    out_grad: bool = False,
    smooth_alpha: float = 0.0,
) -> Operation:
    # On (n, classes), the output of a dense layer, every mode is the softmax over the classes.
    return Operation(kind=SOFTMAX, data_inputs=2, settings={"axis": -1})


@_operator("Dropout", "_npx_dropout")
def _dropout(
    *, p: float = 0.5, mode: str = "training", axes: Axes = (), cudnn_off: bool = False
) -> Operation:
    # mode="always" applies dropout at inference too.
    return Operation(kind=IDENTITY if mode == "training" or p == 0 else DROPOUT)


@_operator("Flatten", "flatten")
def _flatten() -> Operation:
    return Operation(kind=FLATTEN)


@_operator("identity", "_copy", "_np_copy", "_npi_copy")
def _identity() -> Operation:
    return Operation(kind=IDENTITY)


@_operator("Cast", "cast", "amp_cast")
def _cast(*, dtype: str) -> Operation:
    return Operation(kind=CAST if dtype in FLOATS else f"cast to {dtype}")


@_operator("amp_multicast")
def _multicast(*, num_outputs: int, cast_narrow: bool = False) -> Operation:
    return Operation(kind=CAST, data_inputs=num_outputs)


@functools.cache
def _fields(schema: Callable[..., Operation]) -> dict[str, tuple[object, object]]:
    """Return (type, default) of each attribute."""
    hints = typing.get_type_hints(schema)
    parameters = inspect.signature(schema).parameters
    return {name: (hints[name], parameter.default) for name, parameter in parameters.items()}


def _value(key: str, text: str, field: tuple[object, object]) -> Value | None:
    """Parse an attribute; return None for MXNet's default."""
    kind, _ = field
    try:
        if len(text) > MAX_VALUE_CHARACTERS:
            raise ValueError(text)  # noqa: TRY301 - reported by the caller, with the operator and attribute
        return None if text == "None" else _PARSERS[kind](text)
    except ValueError as error:
        raise ValueError(f"{key} has the invalid value {text[:MAX_VALUE_CHARACTERS]!r}") from error


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+L?", text.strip()):
        raise ValueError(text)
    return int(text.strip().removesuffix("L"))


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip()):
        raise ValueError(text)
    return float(text)


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _axes(text: str) -> Axes:
    """Parse ``(2, 3)``, ``[2,3]``, ``(2L, 3L)`` or ``2``."""
    return tuple(_integer(part) for part in re.split(r"[,\s]+", text.strip("()[] ")) if part)


def _size(text: str) -> Value | None:
    """Parse up to two numbers; equal ones become one, ``()`` means the default."""
    numbers = _axes(text)
    if len(numbers) > IMAGE_AXES:
        raise ValueError(text)
    return None if not numbers else numbers[0] if len(set(numbers)) == 1 else numbers


def _pair(text: str) -> Value | None:
    """Parse two numbers; equal ones become one, ``()`` means the default."""
    if len(_axes(text)) not in {0, IMAGE_AXES}:
        raise ValueError(text)
    return _size(text)


_PARSERS: dict[object, Callable[[str], Value | None]] = {
    int: _integer,
    float: _number,
    bool: _boolean,
    str: str,
    Axes: _axes,
    Size: _size,
    Pair: _pair,
}
