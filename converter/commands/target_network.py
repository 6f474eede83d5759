"""Builds the existing module that a manifest names, with the weights of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ArtifactError
from converter.formats import precision
from converter.manifests import target_weights
from converter.targets.adaptation import Adaptation

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from converter.manifests.converted_weights import ConvertedWeights


def load(path: Path, weights: ConvertedWeights) -> nn.Module:
    """Return a model of timm or torchvision with the weights of a file, in float32.

    Args:
        path: the file.
        weights: its content.

    Raises:
        ArtifactError: if the weights are for another module: a manifest from anyone would run any code.
        TargetError: if the package is not installed, or its model has changed.
        MappingError: if the weights do not fit the model.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.targets import building  # noqa: PLC0415 - imports torch

    if (record := weights.target) is None:
        raise ArtifactError(f"{path}: weights for {weights.module}, which is generated")
    target = target_weights.parse(record, str(path))
    if not target.is_packaged:
        raise ArtifactError(
            f"{path}: weights for {weights.module}: only models of timm and torchvision are run\n"
            f"  try         to build it in your own program: {target_weights.description(record, str(path))}"
        )
    adaptations = [
        Adaptation(module=each.module, setting=each.setting, value=each.value) for each in record.adaptations
    ]
    arrays = {name: np.asarray(precision.widen(array)) for name, array in weights.arrays.items()}
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return building.load(target, adaptations, state, "float32")
