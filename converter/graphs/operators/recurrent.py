"""Recurrent layers, and operations on padded sequences.

Source: src/operator/rnn-inl.h, src/operator/sequence_{mask,last,reverse}-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from converter.graphs.graph import Operation
from converter.graphs.operators.activation import relu, sigmoid
from converter.graphs.operators.attributes import Single
from converter.graphs.operators.code import Code
from converter.graphs.operators.registry import operator, other, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array

Mode = Literal["gru", "lstm", "rnn_relu", "rnn_tanh"]
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ZERO = Single(0.0)


@operator("RNN")
def _rnn(
    *,
    state_size: int,
    num_layers: int,
    mode: Mode,
    bidirectional: bool = False,
    p: Single = ZERO,
    state_outputs: bool = False,
    projection_size: int | None = None,
    lstm_state_clip_min: float | None = None,
    lstm_state_clip_max: float | None = None,
    lstm_state_clip_nan: bool = False,
    use_sequence_length: bool = False,
) -> Operation:
    is_lstm = mode == "lstm"
    if projection_size or lstm_state_clip_min is not None or lstm_state_clip_max is not None:
        return refuse("RNN", "projection_size and lstm_state_clip_min are not supported")
    if use_sequence_length:
        return refuse("RNN", "use_sequence_length is not supported")
    outputs = (3 if is_lstm else 2) if state_outputs else 1
    directions = 2 if bidirectional else 1

    def compute(x: Array, parameters: Array, *states: Array) -> Array | tuple[Array, ...]:
        layers = Recurrence(mode, state_size, num_layers, directions)
        results = layers.run(
            x, parameters, [np.broadcast_to(s, (len(s), x.shape[1], state_size)) for s in states]
        )
        return results[:outputs] if state_outputs else results[0]

    inputs = ", ".join(f"{{{number}}}" for number in range(4 if is_lstm else 3))
    options = f'mode="{mode}", size={state_size}, layers={num_layers}, bidirectional={bidirectional}'
    code = Code(f"rnn({inputs}, {options}){'' if state_outputs else '[0]'}", helpers=("rnn",))
    operation = other("RNN", code, compute, data_inputs=4 if is_lstm else 3, outputs=outputs)
    return replace(operation, precision="float32" if mode == "rnn_relu" else "float64")


@operator("_rnn_param_concat")
def _rnn_parameters(*, num_args: int, dim: int = 1) -> Operation:
    if dim != 0:
        return refuse("_rnn_param_concat", "dim is not 0", data_inputs=num_args)
    return other(
        "_rnn_param_concat",
        Code("torch.cat([{inputs}])"),
        lambda *arrays: np.concatenate(arrays),
        data_inputs=num_args,
        rank=1,
    )


@operator("SequenceMask")
def _sequence_mask(*, use_sequence_length: bool = False, value: Single = ZERO, axis: int = 0) -> Operation:
    if not use_sequence_length:
        return other("SequenceMask", Code("{0}"), lambda x: x, keeps_rank=True)

    def compute(x: Array, lengths: Array) -> Array:
        y = x.copy()
        for number, length in enumerate(lengths.astype(np.int64)):
            part = y[length:, number] if axis == 0 else y[number, length:]
            part[:] = value
        return y

    code = Code(f"sequence_mask({{0}}, {{1}}, value={value!r}, axis={axis})", helpers=("sequence_mask",))
    return other("SequenceMask", code, compute, data_inputs=2, length_input=1)


@operator("SequenceLast")
def _sequence_last(*, use_sequence_length: bool = False, axis: int = 0) -> Operation:
    if not use_sequence_length:
        return other("SequenceLast", Code(f"{{0}}.select({axis}, -1)"), lambda x: x.take(-1, axis))

    def compute(x: Array, lengths: Array) -> Array:
        steps = x if axis == 0 else x.swapaxes(0, 1)
        return np.stack([steps[int(length) - 1, number] for number, length in enumerate(lengths)])

    code = Code(f"sequence_last({{0}}, {{1}}, axis={axis})", helpers=("sequence_last",))
    return other("SequenceLast", code, compute, data_inputs=2, length_input=1)


@operator("SequenceReverse")
def _sequence_reverse(*, use_sequence_length: bool = False, axis: int = 0) -> Operation:
    if axis != 0:
        return refuse("SequenceReverse", "axis is not 0")
    if not use_sequence_length:
        return other("SequenceReverse", Code("{0}.flip(0)"), lambda x: np.flip(x, 0), keeps_rank=True)

    def compute(x: Array, lengths: Array) -> Array:
        y = x.copy()
        for number, length in enumerate(lengths.astype(np.int64)):
            y[:length, number] = x[:length, number][::-1]
        return y

    code = Code("sequence_reverse({0}, {1})", helpers=("sequence_reverse",))
    return other("SequenceReverse", code, compute, data_inputs=2, length_input=1)


class Recurrence:
    """Recurrent layers on arrays.

    Args:
        mode: the kind of cell.
        size: the size of a state.
        layers: the number of layers.
        directions: 1 or 2.
    """

    def __init__(self, mode: Mode, size: int, layers: int, directions: int) -> None:
        self.mode = mode
        self.size = size
        self.layers = layers
        self.directions = directions

    def run(self, x: Array, parameters: Array, states: list[Array]) -> tuple[Array, ...]:
        """Return the outputs (steps, n, size · directions) and the last states."""
        last: list[tuple[Array, ...]] = []
        vectors = self._vectors(x.shape[2], parameters.astype(x.dtype))
        for layer in range(self.layers):
            parts = []
            for direction in range(self.directions):
                number = layer * self.directions + direction
                steps = x[::-1] if direction else x
                y, state = self._direction(steps, vectors[number], [each[number] for each in states])
                parts.append(y[::-1] if direction else y)
                last.append(state)
            x = np.concatenate(parts, -1)
        return x, *(np.stack(each) for each in zip(*last, strict=True))

    def _vectors(self, features: int, parameters: Array) -> list[list[Array]]:
        """Return the weights and biases of each layer and direction."""
        rows = GATES[self.mode] * self.size
        place, weights = 0, []
        for number in range(self.layers * self.directions):
            inputs = features if number < self.directions else self.size * self.directions
            pair = []
            for columns in (inputs, self.size):
                pair.append(parameters[place : place + rows * columns].reshape(rows, columns))
                place += rows * columns
            weights.append(pair)
        biases = parameters[place:].reshape(-1, 2, rows)
        return [[*pair, *bias] for pair, bias in zip(weights, biases, strict=True)]

    def _direction(
        self, x: Array, vectors: list[Array], states: list[Array]
    ) -> tuple[Array, tuple[Array, ...]]:
        input_weight, state_weight, input_bias, state_bias = vectors
        outputs = []
        for step in x:
            given = np.split(step @ input_weight.T + input_bias, GATES[self.mode], -1)
            recurrent = np.split(states[0] @ state_weight.T + state_bias, GATES[self.mode], -1)
            states = CELLS[self.mode](given, recurrent, states)
            outputs.append(states[0])
        return np.stack(outputs), tuple(states)


def _lstm(given: list[Array], recurrent: list[Array], states: list[Array]) -> list[Array]:
    keep, forget, new, out = (one + two for one, two in zip(given, recurrent, strict=True))
    cell = sigmoid(forget) * states[1] + sigmoid(keep) * np.tanh(new)
    return [sigmoid(out) * np.tanh(cell), cell]


def _gru(given: list[Array], recurrent: list[Array], states: list[Array]) -> list[Array]:
    reset, update = (sigmoid(given[gate] + recurrent[gate]) for gate in (0, 1))
    new = np.tanh(given[2] + reset * recurrent[2])
    return [(1 - update) * new + update * states[0]]


def _plain(function: Callable[[Array], Array]) -> Callable[..., list[Array]]:
    return lambda given, recurrent, _: [function(given[0] + recurrent[0])]


CELLS: dict[str, Callable[..., list[Array]]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _plain(np.tanh),
    "rnn_relu": _plain(relu),
}
