"""The result of comparing Gluon's parameters with a PyTorch checkpoint: tensor by tensor, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.formats.array_comparison import TensorDiff
    from converter.networks.loading import LoadedModel
    from converter.parity.diagnosis import Diagnosis
    from converter.parity.result import ParityResult


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The checkpoint's file."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointComparison:
    """What was compared and what was found.

    ``beside`` is what Gluon's parameters were laid beside; ``tensors`` are those whose values differ.
    """

    prepared: LoadedModel
    beside: str
    weights: WeightsFile | None
    proof: ParityResult
    tensors: tuple[TensorDiff, ...]
    diagnosis: Diagnosis | None

    @property
    def passed(self) -> bool:
        """Whether every tensor and every layer's output is the same."""
        return self.proof.passed and not self.tensors
