"""ResNeXt and its relatives in PyTorch, named as torchvision and timm name them.

This folder needs torch and nothing else; preprocessing alone wants torchvision or OpenCV. The
hyper-parameters are read without it, for it takes more than a second to import; it is imported with the first
use of a network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .config import CONFIGS, HEAD, Config, TensorSpec, list_models, parameter_count, state_spec

if TYPE_CHECKING:
    from .features import Features
    from .fusing import fuse
    from .loading import WeightsError, create_model
    from .preprocessing import (
        DataConfig,
        GluonTransform,
        create_transform,
        gluon_transform,
        resolve_data_config,
    )
    from .resnext import Basic, Bottleneck, ResNeXt

# Where what needs torch lies.
PLACES = {
    "Basic": "resnext",
    "Bottleneck": "resnext",
    "DataConfig": "preprocessing",
    "Features": "features",
    "GluonTransform": "preprocessing",
    "ResNeXt": "resnext",
    "WeightsError": "loading",
    "create_model": "loading",
    "create_transform": "preprocessing",
    "fuse": "fusing",
    "gluon_transform": "preprocessing",
    "resolve_data_config": "preprocessing",
}

__all__ = [
    "CONFIGS",
    "HEAD",
    "Basic",
    "Bottleneck",
    "Config",
    "DataConfig",
    "Features",
    "GluonTransform",
    "ResNeXt",
    "TensorSpec",
    "WeightsError",
    "create_model",
    "create_transform",
    "fuse",
    "gluon_transform",
    "list_models",
    "parameter_count",
    "resolve_data_config",
    "state_spec",
]


def __getattr__(name: str) -> object:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # torch is imported when a network is asked for, not before
    return getattr(importlib.import_module(f".{PLACES[name]}", __name__), name)
