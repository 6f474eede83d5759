"""ResNet, ResNeXt and SENet in PyTorch, with the tensor names of torchvision and timm.

The package depends only on torch; preprocessing also needs torchvision or OpenCV. Importing torch takes
more than a second, so the first use of a network imports it; the hyper-parameters do not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .config import CONFIGS, HEAD, Config, TensorSpec, parameter_count, state_spec
from .names import list_models

if TYPE_CHECKING:
    from .data_config import DataConfig, resolve_data_config, resolve_model_data_config
    from .features import Features
    from .fusing import fuse
    from .loading import create_model
    from .optimizing import MeasuredNetwork, OptimizationResult, optimize
    from .preprocessing import GluonTransform, create_transform, gluon_transform
    from .resnext import Basic, Bottleneck, ResNeXt
    from .weight_files import WeightsError

# The modules of the names that need torch.
_MODULES = {
    "Basic": "resnext",
    "Bottleneck": "resnext",
    "DataConfig": "data_config",
    "Features": "features",
    "GluonTransform": "preprocessing",
    "MeasuredNetwork": "optimizing",
    "OptimizationResult": "optimizing",
    "ResNeXt": "resnext",
    "WeightsError": "weight_files",
    "create_model": "loading",
    "create_transform": "preprocessing",
    "fuse": "fusing",
    "gluon_transform": "preprocessing",
    "optimize": "optimizing",
    "resolve_data_config": "data_config",
    "resolve_model_data_config": "data_config",
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
    "MeasuredNetwork",
    "OptimizationResult",
    "ResNeXt",
    "TensorSpec",
    "WeightsError",
    "create_model",
    "create_transform",
    "fuse",
    "gluon_transform",
    "list_models",
    "optimize",
    "parameter_count",
    "resolve_data_config",
    "resolve_model_data_config",
    "state_spec",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # imports torch on first use
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
