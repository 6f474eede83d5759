"""Detect the network of a state dict from the names and shapes of its tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .config import COLOURS, CONFIGS, HEAD, state_spec
from .weight_files import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .config import Config, Shape

FIRST = ("conv1.weight", "conv1.0.weight")
CONV_DIMENSIONS = 4


def detect(shapes: Mapping[str, Shape], path: Path) -> str:
    """Return the name of the network that has exactly these tensors, for any numbers of classes and channels.

    Args:
        shapes: {name: shape} of the tensors.
        path: the file, for the message.

    Raises:
        WeightsError: if no network has them.
    """
    in_chans, num_classes = input_channels(shapes), classes(shapes)
    for name, config in CONFIGS.items():
        if _shapes(replace(config, in_chans=in_chans, num_classes=num_classes)) == shapes:
            return name
    hint = (
        "they may belong to a module that was generated from a graph"
        if path.with_suffix(".py").exists()
        else ""
    )
    raise WeightsError(
        f"{path}: the tensors match no network of list_models()\n"
        f"  try         {hint or f'gluon2torch inspect {path}'}"
    )


def input_channels(shapes: Mapping[str, Shape]) -> int:
    """Return the input channels of the first convolution, 3 if it has no such shape."""
    shape = next((shapes[name] for name in FIRST if name in shapes), ())
    return shape[1] if len(shape) == CONV_DIMENSIONS else COLOURS


def classes(shapes: Mapping[str, Shape]) -> int:
    """Return the number of outputs of the head, 0 without a head."""
    return next(iter(shapes.get(HEAD, ())), 0)


def _shapes(config: Config) -> dict[str, Shape]:
    return {spec.name: spec.shape for spec in state_spec(config)}
