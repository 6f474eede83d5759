"""MXNet's operators: what each computes, as PyTorch code and on arrays, by the names of all MXNet versions.

One module per family registers them; ``parse`` returns the operation of a node.
"""

from __future__ import annotations

from converter.graphs.operators import (
    activation,
    boxes,
    constants,
    convolution,
    elementwise,
    indexing,
    lookup,
    losses,
    normalization,
    ordering,
    pooling,
    recurrent,
    reduction,
    regions,
    resizing,
    sampling,
    shape,
)
from converter.graphs.operators.kinds import (
    ACTIVATIONS,
    ADD,
    BATCH_NORM,
    CONVOLUTION,
    DENSE,
    DROPOUT,
    FLATTEN,
    IDENTITY,
    MULTIPLY,
    NO_FLOAT64,
    POOLING,
    RELU,
    SIGMOID,
    SOFTMAX,
)
from converter.graphs.operators.pooling import GLOBAL_AVERAGE
from converter.graphs.operators.refusals import REASONS
from converter.graphs.operators.registry import defaults, parse, schemas

FAMILIES = (
    activation,
    boxes,
    constants,
    convolution,
    elementwise,
    indexing,
    lookup,
    losses,
    normalization,
    ordering,
    pooling,
    recurrent,
    reduction,
    regions,
    resizing,
    sampling,
    shape,
)

__all__ = [
    "ACTIVATIONS",
    "ADD",
    "BATCH_NORM",
    "CONVOLUTION",
    "DENSE",
    "DROPOUT",
    "FAMILIES",
    "FLATTEN",
    "GLOBAL_AVERAGE",
    "IDENTITY",
    "MULTIPLY",
    "NO_FLOAT64",
    "POOLING",
    "REASONS",
    "RELU",
    "SIGMOID",
    "SOFTMAX",
    "defaults",
    "parse",
    "schemas",
]
