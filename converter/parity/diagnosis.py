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

WHERE_ELSE = {
    "pool": "how it rounds, what it pads with, or the ReLU before it",
    "block": "the sum with the shortcut, or the ReLU after it",
    "batchnorm": "which field is which in the mapping, or what kind of layer it is",
    "dense": "its bias, or what kind of layer it is",
}
BEFORE = "what comes in: the ReLU, pool or sum before it, or its line in the mapping"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The first mismatching layer, and the likely causes as text."""

    probe: Probe
    row: LayerDiff
    suspicions: tuple[str, ...]

    def __str__(self) -> str:
        row, layer = self.row, self.row.layer
        difference = row.remark or f"by up to {row.max_abs:.2g}, {row.relative:.2g} of the deviation"
        return "\n".join(
            [
                f"  first apart  {layer.source} → {layer.target} ({layer.kind}), {self.probe}: {difference}",
                f"    reference  mean {row.reference.mean:.6g}, deviation {row.reference.deviation:.6g}",
                f"    module     mean {row.module.mean:.6g}, deviation {row.module.deviation:.6g}",
                *(f"    suspect    {suspicion}" for suspicion in self.suspicions),
            ]
        )


def diagnose(proof: ParityResult, prepared: LoadedModel, state: Arrays) -> Diagnosis | None:
    """Diagnose the first mismatching layer; return None if no layer mismatches.

    Args:
        proof: the comparison.
        prepared: the Gluon parameters and their model.
        state: arrays that the module was loaded with, by PyTorch names.
    """
    check = proof.decisive
    if check is None or check.first_apart is None:
        return None
    row = check.first_apart
    own = [tensor for tensor in prepared.mapping.tensors if tensor.layer == row.layer]
    wrong = [text for tensor in own for text in _wrong_tensor(tensor, prepared.params, state)]
    settings = [
        f"{name}: {expected} in the reference, {actual} in the module"
        for name, expected, actual in row.settings
    ]
    suspicions = [*wrong, *settings]
    if not suspicions:
        equal = "its tensors are equal bit for bit and its settings the same; " if own else ""
        suspicions = [equal + WHERE_ELSE.get(row.layer.kind, BEFORE)]
    return Diagnosis(check.probe, row, tuple(suspicions))


def _wrong_tensor(tensor: Tensor, params: Arrays, state: Arrays) -> list[str]:
    expected, actual = params[tensor.source], state[tensor.target]
    if array_comparison.same_values(expected, actual):
        return []
    same = [name for name, array in params.items() if array_comparison.same_values(array, actual)]
    if same:
        return [f"{tensor.target} is not Gluon's {tensor.source} but its {same[0]}"]
    shuffled = expected.shape == actual.shape and np.array_equal(
        np.sort(np.asarray(expected), axis=None), np.sort(np.asarray(actual), axis=None)
    )
    order = "; the same numbers in another order" if shuffled else ""
    return [f"{tensor.target}: {array_comparison.compare(tensor.target, expected, actual)}{order}"]
