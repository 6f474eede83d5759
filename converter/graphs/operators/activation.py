"""Activations, softmax and dropout.

Source: src/operator/nn/{activation,softmax,dropout,softmax_activation}-inl.h, src/operator/
{leaky_relu,softmax_output}-inl.h, src/operator/tensor/{elemwise_unary_op,matrix_op}-inl.h, apache/mxnet
1.9.1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Axes, Single
from converter.graphs.operators.code import Code, TorchLayer, identity
from converter.graphs.operators.kinds import ACTIVATIONS, DROPOUT, IDENTITY, RELU, SIGMOID, SOFTMAX
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converter.dtypes import Array
    from converter.graphs.graph import Value
    from converter.graphs.operators.code import Arguments, Shape

LARGEST_INTEGER = 1 << 31  # bounds beyond it are no numbers of MXNet's default integers
FIFTH = Single(0.20000000298023224)  # 0.2 in float32
THIRD = Single(0.33399999141693115)  # 0.334 in float32
# Klambauer et al. 2017, in float32: PyTorch's constants have more digits.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def sigmoid(x: Array) -> Array:
    """Compute the logistic function without overflow."""
    small = np.exp(-np.abs(x))
    y: Array = np.where(x >= 0, 1, small) / (1 + small)
    return y


def softmax(x: Array, axis: int) -> Array:
    """Compute the softmax along an axis."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    y: Array = powers / powers.sum(axis, keepdims=True)
    return y


def relu(x: Array) -> Array:
    """Replace negative values with 0."""
    y: Array = np.maximum(x, 0)
    return y


FUNCTIONS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "relu": ("F.relu({0})", relu),
    "sigmoid": ("torch.sigmoid({0})", sigmoid),
    "tanh": ("torch.tanh({0})", np.tanh),
    # F.softplus is linear above its threshold.
    "softrelu": ("torch.logaddexp({0}, torch.zeros_like({0}))", lambda x: np.logaddexp(x, 0)),
    "softsign": ("F.softsign({0})", lambda x: x / (1 + np.abs(x))),
}


def _function(kind: str, name: str) -> Operation:
    expression, compute = FUNCTIONS[name]
    return Operation(
        kind=kind, code=Code(expression), compute=compute, keeps_rank=True, floating_only=kind != RELU
    )


@operator("Activation", "_npx_activation")
def _activation(*, act_type: str) -> Operation:
    if act_type not in ACTIVATIONS:
        raise ValueError(f"act_type has the unknown value {act_type!r}")
    return _function(ACTIVATIONS[act_type], act_type)


@operator("relu", "_npx_relu")
def _relu() -> Operation:
    return _function(RELU, "relu")


@operator("sigmoid", "_npx_sigmoid")
def _sigmoid() -> Operation:
    return _function(SIGMOID, "sigmoid")


@operator("LeakyReLU", "_npx_leaky_relu")
def _leaky_relu(
    *,
    act_type: Literal["elu", "gelu", "leaky", "prelu", "rrelu", "selu"] = "leaky",
    slope: Single = Single(0.25),  # noqa: B008 - a number
    lower_bound: Single = Single(0.125),  # noqa: B008 - as above
    upper_bound: Single = THIRD,
) -> Operation:
    if act_type == "prelu":
        return _prelu()
    mean = (lower_bound + upper_bound) / 2  # of the random slopes: the slope at inference
    codes: dict[str, tuple[str, Callable[[Array], Array]]] = {
        "leaky": (f"F.leaky_relu({{0}}, {slope!r})", lambda x: np.where(x > 0, x, slope * x)),
        "elu": (f"F.elu({{0}}, {slope!r})", lambda x: np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0)))),
        "rrelu": (f"F.leaky_relu({{0}}, {mean!r})", lambda x: np.where(x > 0, x, mean * x)),
        "selu": ("F.selu({0})", _selu),
        "gelu": ("F.gelu({0})", lambda x: x * _normal_cdf(x)),
    }
    expression, compute = codes[act_type]
    return other("LeakyReLU", Code(expression), compute, keeps_rank=True, floating_only=True)


def _prelu() -> Operation:
    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        return {"_count": math.prod(shapes["gamma"])}

    def compute(x: Array, gamma: Array) -> Array:
        factor = gamma.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 2))
        return np.where(x > 0, x, factor * x)

    layer = TorchLayer(type="nn.PReLU", arguments=arguments, tensors={"gamma": "weight"})
    code = Code("F.prelu({0}, {1}.flatten())", layer)
    return other("LeakyReLU", code, compute, roles=("gamma",), keeps_rank=True, floating_only=True)


@operator("hard_sigmoid")
def _hard_sigmoid(*, alpha: Single = FIFTH, beta: Single = Single(0.5)) -> Operation:  # noqa: B008 - a number
    code = Code(f"({{0}} * {alpha!r} + {beta!r}).clamp(0, 1)")
    return other(
        "hard_sigmoid", code, lambda x: np.clip(alpha * x + beta, 0, 1), keeps_rank=True, floating_only=True
    )


@operator("clip")
def _clip(*, a_min: Single, a_max: Single) -> Operation:
    expression = f"{{0}}.clamp({a_min!r}, {a_max!r})"
    if max(abs(a_min), abs(a_max)) >= LARGEST_INTEGER:
        code = Code(expression)
        return other("clip", code, lambda x: np.clip(x, a_min, a_max), keeps_rank=True, floating_only=True)

    def compute(x: Array) -> Array:
        if np.issubdtype(x.dtype, np.integer):
            return np.clip(x, int(a_min), int(a_max))
        return np.clip(x, a_min, a_max)

    code = Code(expression, on_integers=f"{{0}}.clamp({int(a_min)}, {int(a_max)})")
    return other("clip", code, compute, keeps_rank=True)


@operator("softmax", "_npx_softmax")
def _softmax(
    *, axis: int = -1, temperature: float = 1.0, use_length: bool = False, dtype: str = ""
) -> Operation:
    settings: dict[str, Value] = {"axis": axis, "temperature": temperature, "use_length": use_length}
    data = "{0}" if temperature == 1 else f"({{0}} / {temperature!r})"
    refused = "use_length is not supported" if use_length else "dtype is not supported" if dtype else ""
    return Operation(
        kind=SOFTMAX,
        data_inputs=2 if use_length else 1,
        settings=settings | ({"dtype": dtype} if dtype else {}),
        code=None if refused else Code(f"{data}.softmax({axis})"),
        compute=lambda x: softmax(x / temperature, axis),
        refused=refused,
        keeps_rank=True,
        floating_only=True,
    )


@operator("log_softmax", "_npx_log_softmax")
def _log_softmax(
    *, axis: int = -1, temperature: float = 1.0, use_length: bool = False, dtype: str = ""
) -> Operation:
    if use_length or dtype:
        return refuse("log_softmax", f"{'use_length' if use_length else 'dtype'} is not supported")
    data = "{0}" if temperature == 1 else f"({{0}} / {temperature!r})"

    def compute(x: Array) -> Array:
        x = x / temperature
        x = x - x.max(axis, keepdims=True)
        y: Array = x - np.log(np.exp(x).sum(axis, keepdims=True))
        return y

    return other(
        "log_softmax", Code(f"{data}.log_softmax({axis})"), compute, keeps_rank=True, floating_only=True
    )


@operator("softmin")
def _softmin(
    *, axis: int = -1, temperature: float = 1.0, use_length: bool = False, dtype: str = ""
) -> Operation:
    if use_length or dtype:
        return refuse("softmin", f"{'use_length' if use_length else 'dtype'} is not supported")
    code = Code(f"({{0}} / {-temperature!r}).softmax({axis})")
    return other(
        "softmin", code, lambda x: softmax(x / -temperature, axis), keeps_rank=True, floating_only=True
    )


@operator("SoftmaxActivation")
def _softmax_activation(*, mode: Literal["channel", "instance"] = "instance") -> Operation:
    axis = 1 if mode == "channel" else -1
    code = Code(f"{{0}}.softmax({axis})")
    return other("SoftmaxActivation", code, lambda x: softmax(x, axis), keeps_rank=True, floating_only=True)


@operator("SoftmaxOutput", "Softmax")
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
    axis = 1 if multi_output else -1
    by_sample = not multi_output and not preserve_shape
    code = "{0}.flatten(1).softmax(1).view_as({0})" if by_sample else f"{{0}}.softmax({axis})"

    def compute(x: Array, _label: Array | None = None) -> Array:
        return softmax(x.reshape(len(x), -1), 1).reshape(x.shape) if by_sample else softmax(x, axis)

    return Operation(
        kind=SOFTMAX,
        data_inputs=2,
        takes_label=True,
        settings={"axis": axis, "by_sample": by_sample},
        code=Code(code),
        compute=compute,
        keeps_rank=True,
    )


@operator("Dropout", "_npx_dropout")
def _dropout(
    *, p: float = 0.5, mode: str = "training", axes: Axes = (), cudnn_off: bool = False
) -> Operation:
    # mode="always" applies dropout at inference too.
    drops = mode != "training" and p != 0
    refused = "mode is not training" if drops else "axes are not supported" if axes and p else ""
    layer = TorchLayer(type="nn.Dropout", arguments=lambda _: {"_p": p})
    code = Code(layer=layer) if p else Code("{0}")
    return Operation(
        kind=DROPOUT if drops else IDENTITY,
        training={"p": p},
        code=None if refused else code,
        compute=None if drops else identity,
        refused=refused,
        keeps_rank=True,
    )


def _selu(x: Array) -> Array:
    y: Array = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))
    return y


def _normal_cdf(x: Array) -> Array:
    """Return the distribution function of the standard normal distribution."""
    error = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))
    y: Array = (0.5 * (1 + error)).astype(x.dtype)
    return y
