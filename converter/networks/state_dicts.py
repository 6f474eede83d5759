"""Read the weights of a checkpoint, wherever a training program put them in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.formats import checkpoint
from converter.formats.state_dicts import NetworkNames
from converter.networks import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.checkpoint import Checkpoint


def read(path: Path, key: str | None = None) -> Checkpoint:
    """Return a checkpoint's arrays by name, without a prefix, and their location in the file.

    Args:
        path: the file.
        key: the key of the state dict; by default it is detected by the names of its tensors.

    Raises:
        ConversionError: as ``checkpoint.read``; also if the file contains several networks, or no state dict
            under the key.
    """
    networks = [
        NetworkNames(frozenset(model.shapes), frozenset(model.mapping.target_only))
        for model in catalog.models().values()
    ]
    return checkpoint.load(path, key, networks)
