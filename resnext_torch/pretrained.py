"""Provide the weights that GluonCV published: a cached converted file, or a new conversion.

The package cannot convert. Another one offers a converter as an entry point: a function that takes the name
of a network and a folder, and returns a proven file in that folder.
"""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import weight_files
from .names import UNPUBLISHED
from .weight_files import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    Converter = Callable[[str, Path], Path]

GROUP = "resnext_torch.pretrained"  # of entry points
FOLDER = "gluon2torch"
log = logging.getLogger("resnext_torch")


def cache_folder() -> Path:
    """Return the folder of converted files, in torch's cache, which ``TORCH_HOME`` can select."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FOLDER


def provide(name: str, folder: str | PathLike[str] | None = None) -> Path:
    """Return the file of a network with the weights that GluonCV published.

    A cached file is used if it is intact and its manifest says that it is proven.

    Args:
        name: the network.
        folder: the cache, by default ``cache_folder()``.

    Raises:
        WeightsError: if GluonCV published none, if they cannot be downloaded or converted, or if no
            converter is installed.
    """
    if name in UNPUBLISHED:
        raise WeightsError(
            f"{name}: GluonCV published no weights of this network\n"
            f"  try         resnext_torch.list_models(pretrained=True)"
        )
    cache = cache_folder() if folder is None else Path(folder)
    for file in sorted(cache.glob(f"{name}-*.safetensors")):
        if weight_files.is_proven(file, name):
            return file
    log.info("converting %s into %s", name, cache)
    file = _converter(name)(name, cache)
    if not weight_files.is_proven(file, name):
        raise WeightsError(f"{file}: the converter did not prove the weights")
    return file


def _converter(name: str) -> Converter:
    entry_points = importlib.metadata.entry_points(group=GROUP)
    if not entry_points:
        raise WeightsError(
            f"{name}: not in the cache, and no converter is installed\n"
            f"  try         pip install gluon2torch, or create_model({name!r}, weights=FILE)"
        )
    converter: Converter = next(iter(entry_points)).load()
    return converter
