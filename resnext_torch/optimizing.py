"""Pick the fastest configuration of a network on this machine, by measuring."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .data_config import resolve_data_config
from .fusing import LARGE, fuse
from .resnext import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    Network = Callable[[Tensor], Tensor]
    Batches = list[tuple[Tensor, Tensor]]  # images and their logits

UNCHANGED = "unchanged"
ROUNDS = 5
# Of a logit's difference, in standard deviations; wide in float32 because TF32 has a mantissa of 10 bits.
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-2}
LOOSEST = 0.1
CONTIGUOUS: Any = {"memory_format": torch.contiguous_format}  # not annotated in all versions of torch
CHANNELS_LAST: Any = {"memory_format": torch.channels_last}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredNetwork:
    """A configuration of the network that was tried.

    Attributes:
        name: what was changed, such as "fused, channels_last, compiled".
        seconds: the median time of a batch; infinite if it was rejected.
        error: the largest difference of a logit from the unchanged network's, in standard deviations of the
            logits; NaN if it does not run.
        rejected: why it was rejected, "" if it was not.
    """

    name: str
    seconds: float = float("inf")
    error: float = float("nan")
    rejected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationResult:
    """The fastest configuration of a network.

    Attributes:
        network: runs it, without gradients.
        chosen: the configuration.
        candidates: all that were tried; the first is the unchanged network.
    """

    network: Network
    chosen: MeasuredNetwork
    candidates: tuple[MeasuredNetwork, ...]

    @property
    def speedup(self) -> float:
        """How many times as fast as the unchanged network it is."""
        return self.candidates[0].seconds / self.chosen.seconds

    def __str__(self) -> str:
        """Return a table, one line per candidate, the chosen one with a star."""
        lines = []
        for each in self.candidates:
            mark = "*" if each is self.chosen else " "
            figures = f"{each.seconds * 1000:9.1f} ms   error {each.error:.1e}"
            lines.append(f"{mark} {each.name:34} {each.rejected or figures}")
        return "\n".join(lines)


def optimize(
    model: ResNeXt, images: Tensor | None = None, *, try_compile: bool = True, try_bfloat16: bool = False
) -> OptimizationResult:
    """Pick the fastest configuration of a network on its device, for batches like ``images``.

    The candidates are the network with its BatchNorms folded, in both memory formats, with and without
    ``torch.compile`` with frozen weights. They take turns. One whose logits differ from the network's is
    rejected.

    Args:
        model: the network, in evaluation mode.
        images: a typical batch on the network's device; by default one random image of the network's size. A
            compiled network is compiled again for another shape.
        try_compile: whether to try ``torch.compile``, which takes minutes and on a CPU needs a C++ compiler.
        try_bfloat16: whether to try bfloat16, too, whose error is reported and not limited.

    Raises:
        TypeError: if it is no network of this package.
        ValueError: if the network is in training mode or cannot be fused, or if its logits are not finite.
    """
    if not isinstance(model, ResNeXt):
        raise TypeError(f"expected a network of resnext_torch, found {type(model).__name__}")
    if model.training:
        raise ValueError("cannot optimize a network in training mode; call eval() first")
    weight = next(model.parameters())
    if images is None:
        shape = resolve_data_config(model.config)["input_size"]
        images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(weight)
    fused = fuse(model)
    contiguous = copy.deepcopy(fused).to(**CONTIGUOUS)
    networks: dict[str, Network] = {"fused": contiguous, "fused, channels_last": _channels_last(fused)}
    if try_compile:
        networks["fused, compiled"] = _compiled(contiguous)
        networks["fused, channels_last, compiled"] = _channels_last(_compiled(fused))
    limit = LIMITS.get(weight.dtype, LOOSEST)
    limits = dict.fromkeys(networks, limit)
    if try_bfloat16:
        rounded = {f"{name}, bfloat16": _bfloat16(network) for name, network in networks.items()}
        networks |= rounded
        limits |= dict.fromkeys(rounded, float("inf"))
    return select({UNCHANGED: model, **networks}, images, limits)


def select(networks: dict[str, Network], images: Tensor, limits: dict[str, float]) -> OptimizationResult:
    """Return the fastest of several networks whose logits are those of the first.

    Args:
        networks: the networks by name.
        images: the batch to measure with.
        limits: the largest error of each network but the first.

    Raises:
        ValueError: if the logits of the first are not finite.
    """
    first, *others = networks
    with torch.inference_mode():
        results = [(batch, networks[first](batch).double()) for batch in (images, LARGE * images)]
        expected = [(batch, logits) for batch, logits in results if bool(logits.isfinite().all())]
        if not expected or expected[0][0] is not images:  # half precision may overflow for the large ones
            raise ValueError("the network's logits are not finite for these images")
        tried = {first: MeasuredNetwork(name=first, error=0.0)}
        for name in others:
            tried[name] = _check(name, networks[name], expected, limits[name])
        running = [name for name, each in tried.items() if not each.rejected]
        rounds = [{name: _seconds(networks[name], images) for name in running} for _ in range(ROUNDS)]
    for name in running:
        seconds = statistics.median(each[name] for each in rounds)
        tried[name] = MeasuredNetwork(name=name, seconds=seconds, error=tried[name].error)
    chosen = min(tried.values(), key=lambda each: each.seconds)
    return OptimizationResult(
        network=_without_gradients(networks[chosen.name]), chosen=chosen, candidates=tuple(tried.values())
    )


def _check(name: str, network: Network, expected: Batches, limit: float) -> MeasuredNetwork:
    """Compare the logits of a network with the expected ones; its first run may compile it."""
    try:
        found = [(network(batch).double(), logits) for batch, logits in expected]
    except (RuntimeError, OSError, ImportError) as error:  # no compiler, an operator that the device lacks
        cause = getattr(error, "inner_exception", error)  # of torch.compile's errors
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        return MeasuredNetwork(name=name, rejected=f"does not run here: {reason}")
    worst = max(_difference(*pair) for pair in found)
    rejected = "" if worst <= limit else f"its logits differ by {worst:.1e} (limit {limit:.0e})"
    return MeasuredNetwork(name=name, error=worst, rejected=rejected)


def _difference(logits: Tensor, expected: Tensor) -> float:
    scale = expected.std() if expected.numel() > 1 else expected.abs().max()
    return float((logits - expected).abs().max() / scale.clamp_min(torch.finfo(torch.float64).tiny))


def _seconds(network: Network, images: Tensor) -> float:
    synchronize: Callable[[], None] = torch.cuda.synchronize if images.is_cuda else lambda: None
    synchronize()
    begin = time.perf_counter()
    network(images)
    synchronize()
    return time.perf_counter() - begin


def _without_gradients(network: Network) -> Network:
    """Return a network that runs as it was measured."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(images)

    return run


def _channels_last(network: Network) -> Network:
    """Return a network that takes images of any memory format, and computes with channels last."""

    def run(images: Tensor) -> Tensor:
        return network(images.contiguous(**CHANNELS_LAST))

    return run


def _compiled(network: nn.Module) -> Network:
    """Return a network that is compiled when it first runs, with its weights as constants."""
    compiled: Any = torch.compile(network, options={"freezing": True})

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():  # without which weights are not frozen
            logits: Tensor = compiled(images)
        return logits

    return run


def _bfloat16(network: Network) -> Network:
    """Return a network that computes convolutions and matrix products in bfloat16."""

    def run(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return network(images)

    return run
