"""Find the first mismatching layer of a failed comparison and list the likely causes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.formats import array_comparison

if TYPE_CHECKING:
    from converter.formats.file_arrays import Arrays
    from converter.networks.loading import LoadedModel
    from converter.networks.mapping import Tensor
    from converter.parity.result import LayerDiff, ParityResult
    from converter.references.probes import Probe

# What to check if the tensors and settings of a layer are equal, by its kind.
REMAINING = {
    "pool": "its rounding, its padding, and the ReLU before it",
    "block": "the addition of the shortcut, and the ReLU after it",
    "batchnorm": "the order of its parameters in the mapping, and its layer type",
    "dense": "its bias, and its layer type",
}
INPUT = "its input (the ReLU, pool or addition before it), and its line in the mapping"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The first mismatching layer, and the likely causes as text."""

    probe: Probe
    row: LayerDiff
    suspicions: tuple[str, ...]

    def __str__(self) -> str:
        row, layer = self.row, self.row.layer
        names = f"{layer.source} → {layer.target} ({layer.kind})"
        difference = (
            row.remark or f"largest difference {row.max_abs:.2g}, difference / deviation {row.relative:.2g}"
        )
        return "\n".join(
            [
                f"  first mismatch  {names}, {self.probe}: {difference}",
                f"    reference  mean {row.reference.mean:.6g}, deviation {row.reference.deviation:.6g}",
                f"    module     mean {row.module.mean:.6g}, deviation {row.module.deviation:.6g}",
                *(f"    suspect    {suspicion}" for suspicion in self.suspicions),
            ]
        )


def diagnose(proof: ParityResult, loaded: LoadedModel, state: Arrays) -> Diagnosis | None:
    """Diagnose the first mismatching layer; return None if no layer mismatches.

    Args:
        proof: the comparison.
        loaded: the Gluon parameters and their model.
        state: arrays that the module was loaded with, by PyTorch names.
    """
    check = proof.decisive
    if check is None or check.first_mismatch is None:
        return None
    row = check.first_mismatch
    own = [tensor for tensor in loaded.mapping.tensors if tensor.layer == row.layer]
    wrong = [text for tensor in own for text in _wrong_tensor(tensor, loaded.params, state)]
    settings = [
        f"{name}: {expected} in the reference, {actual} in the module"
        for name, expected, actual in row.settings
    ]
    suspicions = [*wrong, *settings]
    if not suspicions:
        equal = "its tensors and settings are equal; " if own else ""
        suspicions = [f"{equal}check {REMAINING.get(row.layer.kind, INPUT)}"]
    return Diagnosis(check.probe, row, tuple(suspicions))


def _wrong_tensor(tensor: Tensor, params: Arrays, state: Arrays) -> list[str]:
    expected, actual = params[tensor.source], state[tensor.target]
    if array_comparison.same_values(expected, actual):
        return []
    same = [name for name, array in params.items() if array_comparison.same_values(array, actual)]
    if same:
        return [f"{tensor.target} has the values of Gluon's {same[0]}, not of its {tensor.source}"]
    shuffled = expected.shape == actual.shape and np.array_equal(
        np.sort(np.asarray(expected), axis=None), np.sort(np.asarray(actual), axis=None)
    )
    order = "; the same values in a different order" if shuffled else ""
    return [f"{tensor.target}: {array_comparison.compare(tensor.target, expected, actual)}{order}"]
