"""Normalizations.

Source: src/operator/nn/{batch_norm,layer_norm,group_norm}-inl.h, src/operator/{batch_norm_v1,
instance_norm,l2_normalization}-inl.h, src/operator/nn/lrn-inl.h, src/operator/contrib/
sync_batch_norm-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.attributes import Single
from converter.graphs.operators.code import Code, TorchLayer
from converter.graphs.operators.kinds import BATCH_NORM
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.dtypes import Array
    from converter.graphs.graph import Settings
    from converter.graphs.operators.code import Arguments, Shape

DEFAULT_EPS = 0.0010000000474974513  # MXNet's default is 1e-3 in float32
SMALL_EPS = Single(9.999999747378752e-06)  # 1e-5 in float32
TINY_EPS = Single(1.000000013351432e-10)  # 1e-10 in float32
LRN_ALPHA = Single(9.999999747378752e-05)  # 1e-4 in float32
FROZEN = "FrozenBatchNorm"  # in graphs.helpers
TORCH_EPS, TORCH_MOMENTUM = 1e-5, 0.1  # the defaults of nn.BatchNorm2d
IMAGE_RANK = 4


@operator("BatchNorm", "_npx_batch_norm")
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
    update = round(1 - momentum, 12)  # of the running mean and variance: PyTorch's momentum
    options: Arguments = {
        **({} if eps == TORCH_EPS else {"eps": eps}),
        **({} if update == TORCH_MOMENTUM or use_global_stats else {"momentum": update}),
    }

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        return {"_channels": math.prod(shapes["gamma"]), **options}

    def compute(x: Array, *statistics: Array) -> Array:
        shape = (-1,) + (1,) * (x.ndim - 2)
        gamma, beta, mean, variance = (array.astype(x.dtype).reshape(shape) for array in statistics)
        scale = (1 if fix_gamma else gamma) / np.sqrt(variance + x.dtype.type(eps))
        y: Array = (x - mean) * scale + beta
        return y

    layer = TorchLayer(
        type=FROZEN if use_global_stats else "nn.BatchNorm{dims}d",
        arguments=arguments,
        tensors={
            "gamma": "weight",
            "beta": "bias",
            "running_mean": "running_mean",
            "running_var": "running_var",
        },
        constants=("weight",) if fix_gamma else (),
        helpers=(FROZEN,) if use_global_stats else (),
    )
    settings: Settings = {"eps": eps, "axis": axis}
    if output_mean_var:
        settings["output_mean_var"] = True
    refused = "axis is not 1" if axis != 1 else "output_mean_var is not supported" if output_mean_var else ""
    gamma = "torch.ones_like({1})" if fix_gamma else "{1}"
    statistics = f"eps={eps!r}" if use_global_stats else f"self.training, {update!r}, {eps!r}"
    return Operation(
        kind=BATCH_NORM,
        roles=("gamma", "beta", "running_mean", "running_var"),
        settings=settings,
        fix_gamma=fix_gamma,
        training={"momentum": momentum, "use_global_stats": use_global_stats},
        code=None
        if refused
        else Code(f"F.batch_norm({{0}}, {{3}}, {{4}}, {gamma}, {{2}}, {statistics})", layer),
        compute=compute,
        refused=refused,
        keeps_rank=True,
    )


@operator("_contrib_SyncBatchNorm")
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
    return _batch_norm(
        eps=eps,
        momentum=momentum,
        fix_gamma=fix_gamma,
        use_global_stats=use_global_stats,
        output_mean_var=output_mean_var,
    )


@operator("BatchNorm_v1", "CuDNNBatchNorm")
def _batch_norm_v1(
    *,
    eps: float = DEFAULT_EPS,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
) -> Operation:
    return _batch_norm(
        eps=eps,
        momentum=momentum,
        fix_gamma=fix_gamma,
        use_global_stats=use_global_stats,
        output_mean_var=output_mean_var,
    )


@operator("LayerNorm", "_npx_layer_norm")
def _layer_norm(*, axis: int = -1, eps: Single = SMALL_EPS, output_mean_var: bool = False) -> Operation:
    if axis != -1 or output_mean_var:
        return refuse("LayerNorm", "axis is not -1" if axis != -1 else "output_mean_var is not supported")

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        return {"_size": math.prod(shapes["gamma"]), "eps": eps}

    def compute(x: Array, gamma: Array, beta: Array) -> Array:
        centered = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centered * centered).mean(-1, keepdims=True) + x.dtype.type(eps))
        y: Array = centered / scale * gamma.astype(x.dtype) + beta.astype(x.dtype)
        return y

    layer = TorchLayer(type="nn.LayerNorm", arguments=arguments, tensors={"gamma": "weight", "beta": "bias"})
    code = Code(f"F.layer_norm({{0}}, {{1}}.shape, {{1}}, {{2}}, {eps!r})", layer)
    return replace(other("LayerNorm", code, compute, roles=("gamma", "beta"), keeps_rank=True), bias_axis=-1)


@operator("GroupNorm")
def _group_norm(*, num_groups: int = 1, eps: Single = SMALL_EPS, output_mean_var: bool = False) -> Operation:
    if output_mean_var:
        return refuse("GroupNorm", "output_mean_var is not supported")

    def compute(x: Array, gamma: Array, beta: Array) -> Array:
        parts = x.reshape(len(x), num_groups, -1)
        centered = parts - parts.mean(-1, keepdims=True)
        scale = np.sqrt((centered * centered).mean(-1, keepdims=True) + x.dtype.type(eps))
        y: Array = (centered / scale).reshape(len(x), len(gamma), -1)  # parameters of groups or of channels
        y = y * gamma.astype(x.dtype)[:, None] + beta.astype(x.dtype)[:, None]
        return y.reshape(x.shape)

    code = Code(
        f"(F.group_norm({{0}}, {num_groups}, eps={eps!r}).reshape(len({{0}}), len({{1}}), -1)"
        " * {1}[:, None] + {2}[:, None]).view_as({0})"
    )
    return other("GroupNorm", code, compute, roles=("gamma", "beta"), keeps_rank=True)


@operator("InstanceNorm")
def _instance_norm(*, eps: Single = Single(DEFAULT_EPS)) -> Operation:  # noqa: B008 - a number
    def compute(x: Array, gamma: Array, beta: Array) -> Array:
        axes = tuple(range(2, x.ndim))
        shape = (-1,) + (1,) * (x.ndim - 2)
        centered = x - x.mean(axes, keepdims=True)
        scale = np.sqrt((centered * centered).mean(axes, keepdims=True) + x.dtype.type(eps))
        y: Array = centered / scale * gamma.astype(x.dtype).reshape(shape) + beta.astype(x.dtype).reshape(
            shape
        )
        return y

    def arguments(shapes: Mapping[str, Shape]) -> Arguments:
        return {"_channels": math.prod(shapes["gamma"]), "eps": eps, "affine": True}

    tensors = {"gamma": "weight", "beta": "bias"}
    layer = TorchLayer(type="nn.InstanceNorm{dims}d", arguments=arguments, tensors=tensors)
    code = Code(f"F.instance_norm({{0}}, weight={{1}}, bias={{2}}, eps={eps!r})", layer)
    return other("InstanceNorm", code, compute, roles=("gamma", "beta"), keeps_rank=True)


@operator("L2Normalization")
def _l2_normalization(
    *, eps: Single = TINY_EPS, mode: Literal["channel", "instance", "spatial"] = "instance"
) -> Operation:
    first, last = {"instance": (1, None), "channel": (1, 2), "spatial": (2, None)}[mode]

    def compute(x: Array) -> Array:
        axes = tuple(range(x.ndim))[first:last]
        y: Array = x / np.sqrt((x * x).sum(axes, keepdims=True) + x.dtype.type(eps))
        return y

    dims = "1" if mode == "channel" else f"tuple(range({first}, {{0}}.dim()))"
    code = Code(f"{{0}} / torch.sqrt({{0}}.square().sum({dims}, keepdim=True) + {eps!r})")
    return other("L2Normalization", code, compute, keeps_rank=True)


@operator("LRN")
def _local_response_norm(
    *,
    nsize: int,
    alpha: Single = LRN_ALPHA,
    beta: Single = Single(0.75),  # noqa: B008 - a number
    knorm: Single = Single(2.0),  # noqa: B008 - a number
) -> Operation:
    if nsize % 2 == 0:
        return refuse("LRN", "nsize is even", data_inputs=1)

    def compute(x: Array) -> Array:
        border = nsize // 2
        squares = np.pad(x * x, ((0, 0), (border, border), *((0, 0),) * (x.ndim - 2)))
        total = sum(squares[:, begin : begin + x.shape[1]] for begin in range(nsize))
        y: Array = x * (knorm + alpha / nsize * total) ** -beta
        return y

    code = Code(f"F.local_response_norm({{0}}, {nsize}, {alpha!r}, {beta!r}, {knorm!r})")
    return other("LRN", code, compute, keeps_rank=True)
