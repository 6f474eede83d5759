"""Recurrent layers whose parameters are one vector."""

from __future__ import annotations

import torch
from torch import Tensor


def rnn(
    x: Tensor,
    parameters: Tensor,
    state: Tensor,
    cell: Tensor | None = None,
    *,
    mode: str,
    size: int,
    layers: int,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """Apply recurrent layers, and return the outputs and the last states.

    Args:
        x: (steps, n, features)
        parameters: the weights of all layers and directions, then the biases.
        state: (layers * directions, n, size), or with n = 1 for the whole batch.
        cell: the same, of an LSTM.
        mode: lstm, gru, rnn_tanh or rnn_relu.
        size: the size of a state.
        layers: the number of layers.
        bidirectional: whether a second direction runs from the end.
    """
    gates = size * {"lstm": 4, "gru": 3}.get(mode, 1)
    directions = 2 if bidirectional else 1
    shapes = []
    for layer in range(layers):
        inputs = x.shape[2] if layer == 0 else size * directions
        shapes += [(gates, inputs), (gates, size)] * directions
    lengths = [rows * columns for rows, columns in shapes] + [gates] * len(shapes)
    parts = torch.split(parameters, lengths)
    weights: list[Tensor] = []
    for place in range(0, len(shapes), 2):
        weights += [parts[place].view(shapes[place]), parts[place + 1].view(shapes[place + 1])]
        weights += [parts[len(shapes) + place], parts[len(shapes) + place + 1]]
    state = state.expand(-1, x.shape[1], -1).contiguous()
    if cell is not None:
        states = (state, cell.expand(-1, x.shape[1], -1).contiguous())
        return torch.lstm(x, states, weights, True, layers, 0.0, False, bidirectional, False)
    function = {"gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}[mode]
    return function(x, state, weights, True, layers, 0.0, False, bidirectional, False)
