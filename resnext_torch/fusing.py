"""Convolutions with their BatchNorms folded in: the same numbers, fewer and faster steps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from .resnext import ResNeXt

SIZE = 65, 95  # odd, rectangular
# Of the largest logit; what folding costs is near the types' own precision.
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-3}
LOOSEST = 0.1


def fuse(model: ResNeXt) -> ResNeXt:
    """Return a copy of a network with every BatchNorm folded into the convolution before it, channels last.

    In that memory format convolutions are faster; inputs may be in any.
    It is for inference alone, and compared with the network on a random image.
    Errors: ``ValueError`` for a network in training mode, or one that does not compute the same then: whose
    layers were replaced or joined otherwise.
    """
    if model.training:
        raise ValueError("a network in training mode cannot be fused: call eval() before")
    fused = copy.deepcopy(model)
    conv: nn.Conv2d | None = None
    for name, module in list(fused.named_modules()):
        if isinstance(module, nn.Conv2d):
            conv, place = module, name
        elif isinstance(module, nn.BatchNorm2d):
            if conv is None:
                raise ValueError(f"{name}: no convolution comes before it")
            fused.set_submodule(place, fuse_conv_bn_eval(conv, module).requires_grad_())
            fused.set_submodule(name, nn.Identity())
    _require_same(model, fused)
    layout: Any = {"memory_format": torch.channels_last}  # of which not every torch's types know
    fused.to(**layout)
    return fused


def _require_same(model: ResNeXt, fused: ResNeXt) -> None:
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.config.in_chans, *SIZE, generator=generator).to(weight)
    with torch.inference_mode():
        expected, found = model(image).double(), fused(image).double()
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    if not bool((found - expected).abs().max() <= LIMITS.get(weight.dtype, LOOSEST) * scale):
        raise ValueError("the fused network does not compute the same: were its layers changed?")
