"""Draws the parameters of GluonCV's networks, many times faster than MXNet's initializers."""

from __future__ import annotations

from typing import Any

import numpy as np


def initialize(net: Any, mxnet: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401 - MXNet is untyped
    """Initialize a network without running it and without gradients, which both take time.

    Weights are zeros; the other parameters are those of a fresh network.

    Args:
        net: the network.
        mxnet: MXNet.
        shape: that of an input, (n, channels, h, w).
    """
    net.collect_params().setattr("grad_req", "null")
    _, graph = net._get_graph(mxnet.nd.zeros(shape))
    arguments, _, states = graph.infer_shape(data=shape)
    shapes = dict(zip(graph.list_arguments(), arguments, strict=True))
    shapes |= zip(graph.list_auxiliary_states(), states, strict=True)
    for name, parameter in net.collect_params().items():
        if name in shapes:  # others have no effect, such as those of a second head
            parameter.shape = shapes[name]
    net.initialize(mxnet.init.Zero())


def draw_weights(net: Any, mxnet: Any, generator: np.random.Generator) -> None:  # noqa: ANN401 - as above
    """Draw the weights from a normal distribution that preserves a signal's scale.

    Source: He et al. 2015, section 2.2.
    """
    for name, parameter in net.collect_params().items():
        if name.endswith("weight"):
            values = generator.standard_normal(parameter.shape, np.float32)
            values *= np.float32(np.sqrt(2 / np.prod(parameter.shape[1:])))
            parameter.set_data(mxnet.nd.array(values))
