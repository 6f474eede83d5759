"""Read the hyper-parameters of PyTorch layers, which their arrays do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from converter.graphs.graph import Settings

# The hyper-parameters that affect a layer's output at inference: {torch's name: ours}.
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
    """Return a layer's hyper-parameters at inference; of a pair, the first number."""
    values = {ours: getattr(layer, theirs) for theirs, ours in SETTINGS.items() if hasattr(layer, theirs)}
    return {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}
