"""Run modules without keeping their activations: the backward pass computes them again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(stage: nn.Sequential, x: Tensor) -> Tensor:
    """Run the modules of a sequence one by one, each of which keeps only its input for the backward pass."""
    for module in stage:
        x = _run_module(module, x)
    return x


def _run_module(module: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler updates statistics once
        output: Tensor = checkpoint(module, x, use_reentrant=False)
    else:
        output = checkpoint(
            module,
            x,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), _statistics_unchanged(module)),
        )
    return output


@contextlib.contextmanager
def _statistics_unchanged(module: nn.Module) -> Iterator[None]:
    """Keep the second computation from updating the running statistics of BatchNorms again.

    They stay among the tensors that a BatchNorm uses: checkpoints compare what both computations keep.
    """
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
