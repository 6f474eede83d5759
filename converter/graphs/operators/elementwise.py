"""Arithmetic, comparisons and functions, element by element.

Source: src/operator/tensor/elemwise_{unary,binary,binary_broadcast,binary_scalar}_op*.{h,cc},
src/operator/mshadow_op.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from converter.graphs.graph import CAST, Operation
from converter.graphs.operators.code import Code, identity
from converter.graphs.operators.kinds import ADD, IDENTITY, MULTIPLY
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.graphs.operators.code import Compute

SMALLEST = 1e-100  # a number whose square and its inverse are finite
FLOATS = {"float16", "float32", "float64", "bfloat16"}  # casts between them are identities, but for rounding
INTEGERS = {"int8", "int32", "int64", "uint8"}


@operator("elemwise_add", "broadcast_add", "broadcast_plus", "_Plus", "_plus", "_add", "_npi_add")
def _add() -> Operation:
    return Operation(
        kind=ADD, data_inputs=2, code=Code("{0} + {1}"), compute=lambda x, y: x + y, keeps_rank=True
    )


# Operators without broadcasting (elemwise_mul, _Mul) cannot scale channels by (n, c, 1, 1).
@operator("broadcast_mul", "_npi_multiply")
def _multiply() -> Operation:
    return Operation(
        kind=MULTIPLY, data_inputs=2, code=Code("{0} * {1}"), compute=lambda x, y: x * y, keeps_rank=True
    )


@operator("identity", "_copy", "_np_copy", "_npi_copy")
def _identity() -> Operation:
    return Operation(kind=IDENTITY, code=Code("{0}"), compute=identity, keeps_rank=True)


@operator("Cast", "cast", "amp_cast")
def _cast(*, dtype: str) -> Operation:
    if dtype in INTEGERS:
        code = Code(f"{{0}}.to(torch.{dtype})")
        return other("Cast", code, lambda x: x.astype(dtype), keeps_rank=True, integers=(0,))
    if dtype not in FLOATS:
        return refuse("Cast", f"dtype is {dtype}")
    code = Code("{0}", on_integers="{0}.float()")
    return Operation(kind=CAST, code=code, compute=_floating, keeps_rank=True, integers=())


@operator("amp_multicast")
def _multicast(*, num_outputs: int, cast_narrow: bool = False) -> Operation:
    return Operation(kind=CAST, data_inputs=num_outputs, outputs=num_outputs)


def _floating(x: Array) -> Array:
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)


@operator("BlockGrad", "stop_gradient")
def _block_gradient() -> Operation:
    return other("BlockGrad", Code("{0}.detach()"), identity, keeps_rank=True)


@operator("add_n", "ElementWiseSum")
def _add_n(*, num_args: int = 0) -> Operation:
    def compute(*arrays: Array) -> Array:
        return functools.reduce(np.add, arrays)

    return other("add_n", Code("{terms}"), compute, data_inputs=num_args or None, keeps_rank=True)


@operator("smooth_l1")
def _smooth_l1(*, scalar: float = 1.0) -> Operation:
    if not SMALLEST < abs(scalar) < 1 / SMALLEST:
        raise ValueError(f"scalar has the invalid value {scalar!r}")
    square = scalar * scalar
    code = Code(
        f"torch.where({{0}}.abs() < {1 / square!r}, {0.5 * square!r} * {{0}}.square(), "
        f"{{0}}.abs() - {0.5 / square!r})"
    )

    def compute(x: Array) -> Array:
        return np.where(np.abs(x) < 1 / square, 0.5 * square * x * x, np.abs(x) - 0.5 / square)

    return other("smooth_l1", code, compute, keeps_rank=True, floating_only=True)


def _round(x: Array) -> Array:
    """Round halves away from zero."""
    whole = np.trunc(x)
    y: Array = np.where(np.abs(x - whole) >= 0.5, whole + np.sign(x), whole)  # noqa: PLR2004 - a half
    return y


def _rint(x: Array) -> Array:
    """Round halves down."""
    below, above = np.floor(x), np.ceil(x)
    y: Array = np.where(x - below <= above - x, below, above)
    return y


def _remainder(x: Array, y: Array) -> Array:
    """Return the remainder with the divisor's sign, 0 for the divisor 0."""
    z: Array = np.where(y == 0, np.zeros_like(x), np.mod(x, np.where(y == 0, np.ones_like(y), y)))
    return z


def _divide(x: Array, y: Array) -> Array:
    """Divide; the quotient of integers is truncated."""
    if np.issubdtype(np.result_type(x), np.integer):
        whole: Array = (np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))).astype(x.dtype)
        return whole
    quotient: Array = np.divide(x, y)
    return quotient


UNARY: dict[str, tuple[str, Compute]] = {
    "abs": ("{0}.abs()", np.abs),
    "arccos": ("torch.acos({0})", np.arccos),
    "arccosh": ("torch.acosh({0})", np.arccosh),
    "arcsin": ("torch.asin({0})", np.arcsin),
    "arcsinh": ("torch.asinh({0})", np.arcsinh),
    "arctan": ("torch.atan({0})", np.arctan),
    "arctanh": ("torch.atanh({0})", np.arctanh),
    "cbrt": ("torch.sign({0}) * {0}.abs() ** (1 / 3)", np.cbrt),
    "ceil": ("torch.ceil({0})", np.ceil),
    "cos": ("torch.cos({0})", np.cos),
    "cosh": ("torch.cosh({0})", np.cosh),
    "erf": ("torch.erf({0})", lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x)),
    "exp": ("torch.exp({0})", np.exp),
    "expm1": ("torch.expm1({0})", np.expm1),
    "fix": ("torch.trunc({0})", np.trunc),
    "floor": ("torch.floor({0})", np.floor),
    "gammaln": ("torch.lgamma({0})", lambda x: np.vectorize(math.lgamma, otypes=[x.dtype])(x)),
    "log": ("torch.log({0})", np.log),
    "log10": ("torch.log10({0})", np.log10),
    "log1p": ("torch.log1p({0})", np.log1p),
    "log2": ("torch.log2({0})", np.log2),
    "logical_not": ("({0} == 0).to({0}.dtype)", lambda x: (x == 0).astype(x.dtype)),
    "negative": ("-{0}", np.negative),
    "ones_like": ("torch.ones_like({0})", np.ones_like),
    "reciprocal": ("torch.reciprocal({0})", lambda x: 1 / x),
    "rint": ("torch.where({0} - {0}.floor() <= {0}.ceil() - {0}, {0}.floor(), {0}.ceil())", _rint),
    "round": ("torch.where({0}.frac().abs() >= 0.5, {0}.trunc() + {0}.sign(), {0}.trunc())", _round),
    "rsqrt": ("torch.rsqrt({0})", lambda x: 1 / np.sqrt(x)),
    "sign": ("torch.sign({0})", np.sign),
    "sin": ("torch.sin({0})", np.sin),
    "sinh": ("torch.sinh({0})", np.sinh),
    "softsign": ("F.softsign({0})", lambda x: x / (1 + np.abs(x))),
    "sqrt": ("torch.sqrt({0})", np.sqrt),
    "square": ("{0}.square()", np.square),
    "tan": ("torch.tan({0})", np.tan),
    "tanh": ("torch.tanh({0})", np.tanh),
    "trunc": ("torch.trunc({0})", np.trunc),
    "zeros_like": ("torch.zeros_like({0})", np.zeros_like),
}
# Of integers, these are integers in PyTorch, too.
INTEGER_FUNCTIONS = {
    *("abs", "ceil", "fix", "floor", "logical_not", "negative", "ones_like", "rint", "sign", "square"),
    *("trunc", "zeros_like"),
}
# The operation in Python, or a function; on arrays; MXNet's names with and without broadcasting.
BINARY: dict[str, tuple[str, Compute, tuple[str, ...]]] = {
    "plus": ("{0} + {1}", np.add, ()),
    "minus": (
        "{0} - {1}",
        np.subtract,
        ("elemwise_sub", "broadcast_sub", "broadcast_minus", "_sub", "_minus", "_Minus", "_npi_subtract"),
    ),
    "mul": ("{0} * {1}", np.multiply, ("elemwise_mul", "_mul", "_Mul")),
    "div": ("{0} / {1}", _divide, ("elemwise_div", "broadcast_div", "_div", "_Div")),
    "power": ("{0} ** {1}", np.power, ("broadcast_power", "_power", "_Power", "_npi_power")),
    "maximum": ("torch.maximum({0}, {1})", np.maximum, ("broadcast_maximum", "_maximum", "_Maximum")),
    "minimum": ("torch.minimum({0}, {1})", np.minimum, ("broadcast_minimum", "_minimum", "_Minimum")),
    "mod": ("remainder({0}, {1})", _remainder, ("broadcast_mod", "_mod", "_Mod")),
    "hypot": ("torch.hypot({0}, {1})", np.hypot, ("broadcast_hypot", "_hypot")),
}
COMPARISONS: dict[str, tuple[str, Compute]] = {
    "equal": ("==", np.equal),
    "not_equal": ("!=", np.not_equal),
    "greater": (">", np.greater),
    "greater_equal": (">=", np.greater_equal),
    "lesser": ("<", np.less),
    "lesser_equal": ("<=", np.less_equal),
}
FLOATING_FUNCTIONS = {"hypot", "power"}
HELPERS = {"mod": ("remainder",)}
ON_INTEGERS = {"div": 'torch.div({0}, {1}, rounding_mode="trunc")'}
LOGICAL: dict[str, Compute] = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
REVERSED = ("minus", "div", "power", "mod")
CLAMPS = {"maximum": "min", "minimum": "max"}  # the bound that each is


def _unary(name: str) -> Callable[[], Operation]:
    expression, compute = UNARY[name]

    def schema() -> Operation:
        shapes_only = (0,) if name in {"ones_like", "zeros_like"} else ()
        return other(
            name,
            Code(expression),
            compute,
            keeps_rank=True,
            shapes_only=shapes_only,
            floating_only=name not in INTEGER_FUNCTIONS,
        )

    return schema


def _binary(
    name: str, expression: str, compute: Compute, on_integers: str = "", helpers: tuple[str, ...] = ()
) -> Callable[[], Operation]:
    def schema() -> Operation:
        code = Code(expression, on_integers=on_integers, helpers=helpers)
        floating_only = any(function in name for function in FLOATING_FUNCTIONS)
        return other(name, code, compute, data_inputs=2, keeps_rank=True, floating_only=floating_only)

    return schema


def _scalar(
    name: str,
    make: Callable[[str], str],
    compute: Compute,
    on_integers: Callable[[str], str] | None = None,
    helpers: tuple[str, ...] = (),
) -> Callable[..., Operation]:
    def schema(*, scalar: float = 1.0, is_int: bool = True) -> Operation:
        whole = int(scalar)  # what MXNet adds to integers, or multiplies them with
        code = Code(
            make(repr(scalar) if scalar >= 0 else f"({scalar!r})"),
            on_integers=(on_integers or make)(str(whole) if whole >= 0 else f"({whole})"),
            helpers=helpers,
        )
        return other(
            name,
            code,
            lambda x: compute(x, x.dtype.type(scalar)),
            keeps_rank=True,
            floating_only=any(function in name for function in FLOATING_FUNCTIONS),
        )

    return schema


def _with_scalar(name: str, expression: str) -> Callable[[str], str]:
    if name in CLAMPS:
        return lambda scalar: f"{{0}}.clamp({CLAMPS[name]}={scalar})"
    if name == "hypot":
        return lambda scalar: f"torch.hypot({{0}}, torch.full_like({{0}}, {scalar}))"
    return lambda scalar: expression.replace("{1}", scalar)


def _before_scalar(expression: str) -> Callable[[str], str]:
    if expression.startswith("torch.div"):
        expression = expression.replace("{0}", "torch.full_like({1}, {0})")
    return lambda scalar: expression.replace("{0}", scalar).replace("{1}", "{0}")


def _swapped(compute: Compute, x: Array, y: Array) -> Array:
    result: Array = compute(y, x)
    return result


def _older_name(name: str) -> str:
    """Return the name of an operator before MXNet 0.9: ``_Greater_Equal``."""
    return f"_{name.title()}"


def _comparison(compute: Compute) -> Compute:
    return lambda x, y: compute(x, y).astype(x.dtype)


def _compared(symbol: str) -> str:
    return f"({{0}} {symbol} {{1}}).to({{0}}.dtype)"


@operator("_npi_true_divide")
def _true_divide() -> Operation:
    def compute(x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            quotient: Array = x / y  # of integers, in float64
        return quotient if np.issubdtype(np.result_type(x), np.floating) else quotient.astype(np.float32)

    return other("_npi_true_divide", Code("{0} / {1}"), compute, data_inputs=2, keeps_rank=True, integers=())


def _register() -> None:
    for name in UNARY:
        operator(name)(_unary(name))
    for name, (expression, compute, aliases) in BINARY.items():
        helpers = HELPERS.get(name, ())
        if aliases:
            operator(*aliases)(_binary(aliases[0], expression, compute, ON_INTEGERS.get(name, ""), helpers))
        title = name.title()
        names = (f"_{name}_scalar", f"_{title}Scalar")
        whole = ON_INTEGERS.get(name, expression)
        operator(*names)(
            _scalar(names[0], _with_scalar(name, expression), compute, _with_scalar(name, whole), helpers)
        )
        if name in REVERSED:
            names = (f"_r{name}_scalar", f"_R{title}Scalar")
            reverse = functools.partial(_swapped, compute)
            operator(*names)(
                _scalar(names[0], _before_scalar(expression), reverse, _before_scalar(whole), helpers)
            )
    for name, (symbol, compute) in COMPARISONS.items():
        text, compare = _compared(symbol), _comparison(compute)
        older = _older_name(name)
        operator(f"broadcast_{name}", f"_{name}", older)(_binary(f"broadcast_{name}", text, compare))
        operator(f"_{name}_scalar", f"_{older.replace('_', '')}Scalar")(
            _scalar(f"_{name}_scalar", _with_scalar(name, text), compare)
        )
    for name, compute in LOGICAL.items():
        text, compare = f"torch.{name}({{0}}, {{1}}).to({{0}}.dtype)", _comparison(compute)
        older = _older_name(name)
        operator(f"broadcast_{name}", f"_{name}", older)(_binary(f"broadcast_{name}", text, compare))
        with_scalar = _with_scalar(name, text.replace("{1}", "torch.full_like({0}, {1})"))
        operator(f"_{name}_scalar", f"_{older.replace('_', '')}Scalar")(
            _scalar(f"_{name}_scalar", with_scalar, compare)
        )


_register()
