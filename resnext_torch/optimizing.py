"""Choose the fastest way to run a network on this machine, by measuring."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .fusing import fuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from .resnext import ResNeXt

UNCHANGED = "unchanged"
ROUNDS = 5
SIZE = 224
LIMIT = 1e-3  # of the error of a way that computes in the network's own precision
CHANNELS_LAST: Any = {"memory_format": torch.channels_last}  # not annotated in all versions of torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to run a network, as measured.

    Attributes:
        name: what was done, such as "fused, compiled".
        seconds: the median time of a batch; None if it does not run here, or if its error is too large.
        error: the largest difference of a logit from the unchanged network's, in standard deviations of the
            logits; None if it does not run here.
        reason: why it does not count, "" if it does.
    """

    name: str
    seconds: float | None = None
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """The fastest way to run a network.

    Attributes:
        network: runs it, for inference only.
        way: what was done.
        ways: all that were measured; the first is the unchanged network.
    """

    network: Callable[[Tensor], Tensor]
    way: Way
    ways: tuple[Way, ...]

    @property
    def speedup(self) -> float:
        """How many times as fast as the unchanged network it is."""
        return (self.ways[0].seconds or 0) / (self.way.seconds or 1)

    def __str__(self) -> str:
        """Return a table, one line per way, the chosen one with a star."""
        lines = []
        for way in self.ways:
            mark = "*" if way is self.way else " "
            if way.seconds is None:
                lines.append(f"{mark} {way.name:32} {way.reason}")
            else:
                lines.append(f"{mark} {way.name:32} {way.seconds * 1000:9.1f} ms   error {way.error:.1e}")
        return "\n".join(lines)


def optimize(
    model: ResNeXt, images: Tensor | None = None, *, compiled: bool = True, bfloat16: bool = False
) -> Optimized:
    """Return the fastest way to run a network on its device, for batches like ``images``.

    The ways are measured in turn, on the same images: folding the BatchNorms, the memory format channels_last
    and ``torch.compile`` with frozen weights. Each must give the logits of the network.

    Args:
        model: the network, in evaluation mode.
        images: a typical batch on the network's device; by default one random image of 224 × 224. A compiled
            network is compiled again for another shape.
        compiled: whether to try ``torch.compile``, which takes a minute and needs a C++ compiler on a CPU.
        bfloat16: whether to try bfloat16, too, whose error is larger and is not limited.

    Raises:
        ValueError: if the network is in training mode, or if it cannot be fused.
    """
    if model.training:
        raise ValueError("cannot optimize a network in training mode; call eval() first")
    weight = next(model.parameters())
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(1, model.config.in_chans, SIZE, SIZE, generator=generator).to(weight)
    ways: dict[str, Callable[[Tensor], Tensor]] = {UNCHANGED: model}
    fused = fuse(model)
    ways["fused"] = copy.deepcopy(fused).to(memory_format=torch.contiguous_format)
    ways["fused, channels_last"] = _channels_last(fused)
    if compiled:
        ways["fused, compiled"] = _compiled(copy.deepcopy(fused).to(memory_format=torch.contiguous_format))
        ways["fused, channels_last, compiled"] = _channels_last(_compiled(fused))
    if bfloat16:
        ways |= {f"{name}, bfloat16": _bfloat16(way) for name, way in ways.items() if name != UNCHANGED}
    return _fastest(ways, images)


def _fastest(ways: dict[str, Callable[[Tensor], Tensor]], images: Tensor) -> Optimized:
    """Measure the ways in turn, because machines drift, and return the fastest."""
    measured: dict[str, Way] = {}
    with torch.inference_mode():
        expected = ways[UNCHANGED](images).double()
        for name, way in ways.items():
            measured[name] = _checked(name, way, images, expected)
        running = {name: way for name, way in ways.items() if not measured[name].reason}
        rounds = [{name: _seconds(way, images) for name, way in running.items()} for _ in range(ROUNDS)]
    times = {name: statistics.median(each[name] for each in rounds) for name in running}
    found = {
        name: Way(name=name, seconds=times.get(name), error=way.error, reason=way.reason)
        for name, way in measured.items()
    }
    best = min(times, key=lambda name: times[name])
    return Optimized(network=ways[best], way=found[best], ways=tuple(found.values()))


def _checked(name: str, way: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> Way:
    """Run a way, twice because the first run compiles, and compare its logits."""
    try:
        way(images)
        logits = way(images).double()
    except (RuntimeError, OSError, ImportError) as error:  # no compiler, an operator that the device lacks
        return Way(name=name, reason=f"does not run here: {str(error).partition(chr(10))[0]}")
    scale = float(expected.std()) if expected.numel() > 1 else float(expected.abs().max())
    difference = float((logits - expected).abs().max()) / (scale or 1.0)
    if "bfloat16" not in name and not difference <= LIMIT:
        return Way(name=name, error=difference, reason=f"its logits differ by {difference:.1e}")
    return Way(name=name, error=difference)


def _seconds(way: Callable[[Tensor], Tensor], images: Tensor) -> float:
    synchronize: Callable[[], None] = torch.cuda.synchronize if images.is_cuda else lambda: None
    synchronize()
    begin = time.perf_counter()
    way(images)
    synchronize()
    return time.perf_counter() - begin


def _channels_last(way: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a way that takes images of any memory format, and computes with channels last."""

    def run(images: Tensor) -> Tensor:
        return way(images.contiguous(**CHANNELS_LAST))

    return run


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a network that is compiled when it first runs, with its weights as constants."""
    compiled: Any = torch.compile(network, options={"freezing": True})

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():  # without which weights are not frozen
            logits: Tensor = compiled(images)
        return logits

    return run


def _bfloat16(way: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a way that computes convolutions and matrix products in bfloat16."""

    def run(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return way(images)

    return run
