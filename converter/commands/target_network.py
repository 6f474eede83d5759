"""Builds the existing module that a manifest names, with the weights of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import ArtifactError
from converter.formats import torch_file
from converter.manifests import target_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from converter.formats.file_arrays import Arrays
    from converter.manifests.target_records import TargetRecord


def load(path: Path, target: TargetRecord, arrays: Arrays) -> nn.Module:
    """Return a model of timm or torchvision with the weights of a file, in float32.

    Args:
        path: the file.
        target: the model, as the manifest of the file names it.
        arrays: the state dict.

    Raises:
        ArtifactError: if the weights are for another module: a manifest from anyone would run any code.
        TargetError: if the package is not installed, or its model has changed.
        MappingError: if the weights do not fit the model.
    """
    from converter.targets import building  # noqa: PLC0415 - imports torch

    model = target_weights.parse(target, str(path))
    if not model.is_packaged:
        raise ArtifactError(
            f"{path}: weights for {target.name}: only models of timm and torchvision are run\n"
            f"  try         to build it in your own program: {target_weights.description(target, str(path))}"
        )
    state = {name: torch_file.tensor(array) for name, array in arrays.items()}
    return building.load(model, target.adaptations, state, "float32")
