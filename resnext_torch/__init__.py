"""ResNeXt and its relatives in PyTorch, named as torchvision and timm name them.

This folder needs torch and nothing else. The hyper-parameters are read without it, for it takes more than a
second to import; it is imported with the first use of a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import CONFIGS, HEAD, Config, TensorSpec, list_models, parameter_count, state_spec

if TYPE_CHECKING:
    from .resnext import Basic, Bottleneck, ResNeXt, create_model

__all__ = [
    "CONFIGS",
    "HEAD",
    "Basic",
    "Bottleneck",
    "Config",
    "ResNeXt",
    "TensorSpec",
    "create_model",
    "list_models",
    "parameter_count",
    "state_spec",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import resnext  # noqa: PLC0415 - torch is imported when a network is asked for, not before

    return getattr(resnext, name)
