"""The result of comparing Gluon's parameters with a PyTorch checkpoint: tensor by tensor, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.formats.array_comparison import Apart
    from converter.networks.loading import Prepared
    from converter.parity.diagnosis import Diagnosis
    from converter.parity.result import Proof


@dataclass(frozen=True, slots=True)
class Weights:
    """The checkpoint's file."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared and what was found.

    ``beside`` is what Gluon's parameters were laid beside; ``tensors`` are those whose values differ.
    """

    prepared: Prepared
    beside: str
    weights: Weights | None
    proof: Proof
    tensors: tuple[Apart, ...]
    diagnosis: Diagnosis | None

    @property
    def passed(self) -> bool:
        """Whether every tensor and every layer's output is the same."""
        return self.proof.passed and not self.tensors
