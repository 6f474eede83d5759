"""How the layers of our modules are set: what no array of theirs shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from converter.graphs.graph import Settings

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


def of_layer(layer: nn.Module) -> Settings:
    """Return how a module's layer is set, whoever wrote it, as far as inference goes."""
    found = {ours: getattr(layer, theirs) for theirs, ours in SETTINGS.items() if hasattr(layer, theirs)}
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}
