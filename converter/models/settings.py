"""How the layers of our modules are set: what no array of theirs shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from converter.models.catalog import Model
    from converter.reference import Settings

# What torch calls the hyper-parameters that decide a layer's output at inference, and what we call them.
SETTINGS = {
    "kernel_size": "kernel",
    "stride": "stride",
    "padding": "padding",
    "dilation": "dilation",
    "groups": "groups",
    "eps": "eps",
    "ceil_mode": "ceil_mode",
}


def of_model(model: Model) -> dict[str, Settings]:
    """Return how every layer of our module is set, by its name: whatever MXNet's graph says of one too."""
    import torch  # noqa: PLC0415 - takes more than a second

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        module = ResNeXt(model.config)
    return {layer.target: _set(module.get_submodule(layer.target)) for layer in model.mapping.layers}


def of_layer(layer: nn.Module) -> Settings:
    """Return how a module's layer is set, whoever wrote it, as far as inference goes."""
    found = {ours: getattr(layer, theirs) for theirs, ours in SETTINGS.items() if hasattr(layer, theirs)}
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


def _set(layer: nn.Module) -> Settings:
    """Return how a layer is set, in MXNet's terms: its momentum is what is kept, not what is taken."""
    from torch import nn  # noqa: PLC0415 - as above

    found = of_layer(layer)
    if isinstance(layer, nn.BatchNorm2d):
        return {**found, "momentum": 1 - (layer.momentum or 0.0)}
    if isinstance(layer, nn.MaxPool2d):
        return {**found, "global": False, "pool": "max"}
    if isinstance(layer, nn.AvgPool2d):
        return {**found, "global": False, "pool": "avg", "count_include_pad": layer.count_include_pad}
    return {"global": True, "pool": "avg"} if isinstance(layer, nn.AdaptiveAvgPool2d) else found
