"""Find the file of weights in a folder, by the rule of ``resnext_torch.create_model``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import CheckpointError
from resnext_torch import weight_files

if TYPE_CHECKING:
    from pathlib import Path


def find_weights(path: Path) -> Path:
    """Return the path of the weights: the path itself, or the only file of weights in a folder.

    Raises:
        CheckpointError: if a folder contains no such file, or more than one.
    """
    try:
        return weight_files.find(path)
    except weight_files.WeightsError as error:
        raise CheckpointError(str(error)) from error
