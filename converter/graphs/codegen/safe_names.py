"""The names that a generated module may use: none of them reads or writes files, or runs other code.

An operator that uses another function of torch adds it here; `tests/test_safe_source.py` fails until it does.
"""

from __future__ import annotations

BUILTINS = {"int", "float", "bool", "len", "map", "range", "slice", "super", "tuple"}

_TORCH = """
    acos acosh arange asin asinh atan atanh atleast_1d bool cat ceil cos cosh div erf exp expm1 eye float16
    float32 float64 floor full full_like get_default_dtype hypot int32 int64 int8 lgamma linalg
    linalg.vector_norm log log10 log1p log2 logaddexp logical_and logical_or logical_xor maximum minimum nn
    nn.functional ones ones_like promote_types reciprocal rsqrt sigmoid sign sin sinh sqrt stack tan tanh
    tensor tensordot trunc uint8 where zeros zeros_like
"""
_FUNCTIONAL = """
    batch_norm conv1d conv2d conv3d conv_transpose2d elu embedding gelu grid_sample group_norm instance_norm
    interpolate layer_norm leaky_relu linear local_response_norm pad prelu relu selu softplus softsign
"""
_LAYERS = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AvgPool1d AvgPool2d AvgPool3d BatchNorm1d
    BatchNorm2d BatchNorm3d Conv1d Conv2d Conv3d ConvTranspose2d Dropout Embedding InstanceNorm1d
    InstanceNorm2d InstanceNorm3d LayerNorm Linear MaxPool1d MaxPool2d MaxPool3d Module PReLU Parameter
"""
FUNCTIONS = frozenset(
    f"{package}.{name}"
    for package, names in (("torch", _TORCH), ("F", _FUNCTIONAL), ("nn", _LAYERS))
    for name in names.split()
)

# Of tensors, shapes and the results of torch's functions.
METHODS = frozenset(
    """
    abs all amax amin any argmax argmin ceil chunk clamp cumsum detach device dim dtype expand expand_as
    flatten flip float floor frac indices log_softmax long max mean min movedim nansum numel permute prod
    repeat repeat_interleave reshape scatter select shape sign softmax sort split square squeeze sum take
    tensor_split tile to transpose trunc unbind unflatten unsqueeze values view_as
    """.split()  # noqa: SIM905 - a list of quoted names has sixty lines
)
# Of layers. Their other attributes are refused, and no member has the name of one.
LAYER_NAMES = frozenset({"register_buffer", "requires_grad_", "training"})
