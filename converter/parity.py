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
    from resnext_torch import Config

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
    if reference.shape != module.shape:
        raise ParityError(f"outputs: shape {reference.shape} expected, {module.shape} found")
    for side, output in (("the reference", reference), ("the PyTorch module", module)):
        if not np.isfinite(output).all():
            raise ParityError(f"{_describe(probe)}: the output of {side} is not finite")
    spread = float(reference.std())
    if spread == 0:
        raise ParityError(
            f"{_describe(probe)}: the reference gives one value for every class, or has one class: no proof"
        )
    max_abs = float(np.abs(reference - module).max())
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


def require_sight(mapping: Mapping, params: dict[str, Array]) -> None:
    """Refuse parameters through which the logits show nothing: a BatchNorm that multiplies all by zero.

    A fresh GluonCV network has such a one at the end of every block.
    Errors: ``ParityError`` with the layers.
    """
    blind = [
        tensor.source
        for tensor in mapping.tensors
        if tensor.source_role == "gamma" and not params[tensor.source].any()
    ]
    if blind:
        raise ParityError(
            "\n  ".join(
                [
                    "nothing before these layers reaches the output: no proof; is the network untrained?",
                    *(f"all zero  {pattern}" for pattern in names.collapse(blind)),
                    "--reference none converts it without a proof",
                ]
            )
        )


def run_module(path: Path, config: Config, probes: tuple[Probe, ...]) -> list[Array]:
    """Return our module's logits for each probe, its weights loaded strictly from a safetensors file."""
    import torch  # noqa: PLC0415 - takes more than a second, and only a proof needs it
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        model = ResNeXt(config)
    model.load_state_dict(load_file(path), strict=True, assign=True)
    model.eval()
    outputs = []
    with torch.inference_mode():
        for probe in probes:
            model.to(getattr(torch, probe.dtype))
            outputs.append(model(torch.from_numpy(probe.input())).numpy())
    return outputs


def _describe(probe: Probe) -> str:
    return f"{probe.dtype} at {probe.label}"
