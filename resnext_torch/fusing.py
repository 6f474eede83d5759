"""Fold batch normalizations into convolutions, for faster inference with the same results."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .resnext import ResNeXt

SIZE = 65, 95  # odd and not square
# Relative to the largest logit. The rounding error of folding is near the precision of the type.
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-3}
LOOSEST = 0.1
LARGE = 64  # the factor of a second image, whose values exceed the bounds of a clip


def fuse(model: ResNeXt) -> ResNeXt:
    """Return a copy of a network with each BatchNorm folded into the convolution before it.

    The copy is for inference only. Its memory format is channels_last, in which convolutions are faster;
    inputs may have any memory format. Its logits are compared with the network's on two random images.

    Raises:
        TypeError: if it is no network of this package.
        ValueError: if the network is in training mode, or if the logits of the copy differ because
            layers were replaced or connected differently.
    """
    if not isinstance(model, ResNeXt):
        raise TypeError(f"expected a network of resnext_torch, found {type(model).__name__}")
    if model.training:
        raise ValueError("cannot fuse a network in training mode; call eval() first")
    fused = copy.deepcopy(model)
    conv: nn.Conv2d | None = None
    for name, module in list(fused.named_modules()):
        if isinstance(module, nn.Conv2d):
            conv, conv_name = module, name
        elif isinstance(module, nn.BatchNorm2d):
            if conv is None:
                raise ValueError(f"{name}: cannot be fused, because no convolution precedes it")
            fused.set_submodule(conv_name, fuse_conv_bn_eval(conv, module).requires_grad_())
            fused.set_submodule(name, nn.Identity())
    _require_same(model, fused)
    layout: Any = {"memory_format": torch.channels_last}  # not annotated in all versions of torch
    fused.to(**layout)
    return fused


def _require_same(model: ResNeXt, fused: ResNeXt) -> None:
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.config.in_chans, *SIZE, generator=generator).to(weight)
    for images in (image, LARGE * image):
        with torch.inference_mode():
            expected, logits = model(images).double(), fused(images).double()
        if images is not image and not bool(expected.isfinite().all()):
            return  # too large for the precision
        scale = expected.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        if not bool((logits - expected).abs().max() <= LIMITS.get(weight.dtype, LOOSEST) * scale):
            raise ValueError("the logits of the fused network differ; layers of the network were changed")
