"""The result of comparing Gluon parameters with a PyTorch checkpoint, by tensor and by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.formats.state_dicts import TOP_LEVEL

if TYPE_CHECKING:
    from converter.formats.array_comparison import TensorDiff
    from converter.formats.state_dicts import Location
    from converter.networks.loading import LoadedModel
    from converter.parity.diagnosis import Diagnosis
    from converter.parity.result import ParityResult


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Name and SHA-256 of the compared checkpoint, and where the weights are in it."""

    file: str
    sha256: str
    location: Location = TOP_LEVEL


@dataclass(frozen=True, slots=True)
class CheckpointComparison:
    """Result of comparing Gluon parameters with a checkpoint, a module or their own conversion.

    Attributes:
        loaded: the Gluon parameters and their model.
        target_name: name of the compared side: the checkpoint's file, "the module" or "the conversion".
        weights: the checkpoint, None if a module or the conversion was compared.
        proof: comparison of the layers' outputs.
        tensors: tensors whose values differ.
        diagnosis: likely causes of the first mismatch, None if no layer mismatches.
    """

    loaded: LoadedModel
    target_name: str
    weights: WeightsFile | None
    proof: ParityResult
    tensors: tuple[TensorDiff, ...]
    diagnosis: Diagnosis | None

    @property
    def passed(self) -> bool:
        """Whether all tensors are equal and the comparison of the layers passed."""
        return self.proof.passed and not self.tensors
