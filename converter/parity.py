"""The proof: the same input through the reference and through our module, and how far they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import ParityError

if TYPE_CHECKING:
    from pathlib import Path

    from converter.mapping import Mapping
    from converter.params import Array
    from resnext_torch import Config, ResNeXt

# Of the reference's standard deviation. Measured in docs/decisions/0003-parity.md.
LIMITS = {"float64": 1e-12, "float32": 1e-5}


@dataclass(frozen=True, slots=True)
class Probe:
    """A seeded random input: (1, 3, h, w), standard normal."""

    dtype: str
    size: tuple[int, int]
    seed: int = 0

    @property
    def label(self) -> str:
        """The size as it is written: height x width."""
        return f"{self.size[0]}x{self.size[1]}"

    def input(self) -> Array:
        """Draw it; the same numbers in every dtype."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return generator.standard_normal((1, 3, *self.size)).astype(self.dtype)


SIGHT_PROBE = Probe("float32", (33, 33))  # small: the question is whether, not how much
# How much the logits must move, in their standard deviations, when some element of a weight moves by one.
# Measured: at least 4e-3 on the files of the parity tests. A weight below this could be exchanged unseen.
MIN_SIGHT = 1e-5


@dataclass(frozen=True, slots=True)
class Check:
    """What one probe found. ``relative`` is ``max_abs`` over the reference's standard deviation."""

    probe: Probe
    max_abs: float
    relative: float

    @property
    def limit(self) -> float:
        """The largest ``relative`` that passes."""
        return LIMITS[self.probe.dtype]

    @property
    def passed(self) -> bool:
        """Whether it stayed within the limit; no NaN does."""
        return self.relative <= self.limit


@dataclass(frozen=True, slots=True)
class Proof:
    """What agreed with what: the reference, the versions it ran on, and every check."""

    reference: str
    versions: dict[str, str]
    checks: tuple[Check, ...]


NO_PROOF = Proof("none", {}, ())


def compare(probe: Probe, reference: Array, module: Array) -> Check:
    """Compare two outputs of one probe.

    Errors: ``ParityError`` where the reference is constant, or either not finite.
    """
    for side, output in (("the reference", reference), ("the PyTorch module", module)):
        if output.shape != module.shape or output.dtype != probe.dtype:
            raise ParityError(
                f"{_describe(probe)}: the output of {side} is {output.dtype} {output.shape}, "
                f"not {probe.dtype} {module.shape}"
            )
        if not np.isfinite(output).all():
            raise ParityError(f"{_describe(probe)}: the output of {side} is not finite")
    spread = _spread(reference)
    if not 0 < spread < np.inf:
        raise ParityError(
            f"{_describe(probe)}: standard deviation {spread} of the logits: nothing to measure by\n"
            "  (one class, or the same value for all). --reference none converts without a proof."
        )
    max_abs = float(np.abs(reference.astype(np.float64) - module).max())
    return Check(probe, max_abs, max_abs / spread)


def require_passed(checks: tuple[Check, ...]) -> None:
    """Refuse when any check failed.

    Errors: ``ParityError`` with every check and its limit.
    """
    if all(check.passed for check in checks):
        return
    lines = (
        f"  {_describe(check.probe)}  {check.relative:.1e} of its standard deviation"
        f" (limit {check.limit:.0e}){'' if check.passed else '  FAILED'}"
        for check in checks
    )
    raise ParityError("\n".join(["the PyTorch module does not agree with the reference", *lines]))


def load_module(path: Path, config: Config) -> ResNeXt:
    """Build our module with the tensors of a safetensors file, loaded strictly; for inference."""
    import torch  # noqa: PLC0415 - takes more than a second, and only a proof needs it
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        model = ResNeXt(config)
    model.load_state_dict(load_file(path), strict=True, assign=True)
    return model.eval()


def blind_weights(model: ResNeXt, mapping: Mapping) -> list[str]:
    """Return Gluon's names of the weights that the logits hardly depend on, by one backward pass.

    Whatever became of those, comparing logits would not show it. A fresh GluonCV network, whose every block
    ends in a BatchNorm of zeros, has such weights, and so has a network with a head of zeros.
    """
    import torch  # noqa: PLC0415 - as in load_module

    logits = model(torch.from_numpy(SIGHT_PROBE.input()))
    spread = _spread(logits.detach().numpy())
    generator = torch.Generator().manual_seed(SIGHT_PROBE.seed)
    logits.backward(torch.randn(logits.shape, generator=generator))
    source = mapping.to_source()
    blind = [
        source[name]
        for name, weight in model.named_parameters()
        if weight.grad is None or not float(weight.grad.abs().max()) > MIN_SIGHT * spread
    ]
    model.zero_grad(set_to_none=True)
    return blind


def require_sight(blind: list[str]) -> None:
    """Refuse outputs that agree and could not have done otherwise.

    Errors: ``ParityError`` with the names of the weights.
    """
    if blind:
        raise ParityError(
            "\n  ".join(
                [
                    "the output does not depend on these, so it cannot prove them; is the network untrained?",
                    *names.collapse(blind),
                    "--reference none converts without a proof",
                ]
            )
        )


def run_module(model: ResNeXt, probes: tuple[Probe, ...]) -> list[Array]:
    """Return the module's logits for each probe. It is left in the last one's precision."""
    import torch  # noqa: PLC0415 - as in load_module

    outputs = []
    with torch.inference_mode():
        for probe in probes:
            model.to(getattr(torch, probe.dtype))
            outputs.append(model(torch.from_numpy(probe.input())).numpy())
    return outputs


def _spread(logits: Array) -> float:
    return float(logits.astype(np.float64).std())


def _describe(probe: Probe) -> str:
    return f"{probe.dtype} at {probe.label}"
