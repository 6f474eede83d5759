"""A case of an operator: its attributes, and random inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from graph_building import build, variable

from converter.graphs import operators

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.graph import Graph


@dataclass(frozen=True)
class OperatorCase:
    """An operator with attributes, applied to random inputs.

    Attributes:
        operator: MXNet's name.
        shapes: the shapes of its inputs: data, then parameters.
        attributes: its attributes, as in a symbol file.
        low: the least value of its data.
        high: the greatest.
        whole: which inputs are whole numbers.
        integers: which inputs are integers.
        single: whether MXNet computes it in float32, in part or as a whole.
        boxes: which inputs end in the corners of boxes.
        whole_columns: which columns of the first input are whole numbers.
        second: the second input.
        scores: (column, low, high) of columns of the first input, whose other columns are boxes.
    """

    operator: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, str] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    whole: tuple[int, ...] = ()
    integers: tuple[int, ...] = ()
    single: bool = False
    boxes: tuple[int, ...] = ()
    whole_columns: tuple[int, ...] = ()
    second: tuple[tuple[float, ...] | float, ...] = ()
    scores: tuple[tuple[int, float, float], ...] = ()

    def __str__(self) -> str:
        texts = [*map(str, self.shapes), *(f"{key}={value}" for key, value in self.attributes.items())]
        texts += [f"x{number} of integers" for number in self.integers]
        return f"{self.operator}({', '.join(texts)})"

    def arrays(self) -> list[Array]:
        """Return the inputs in float64; the values are the same at every call."""
        generator = np.random.Generator(np.random.PCG64(0))
        arrays: list[Array] = [generator.uniform(self.low, self.high, shape) for shape in self.shapes]
        for column, low, high in self.scores:
            arrays[0][..., column] = generator.uniform(low, high, arrays[0].shape[:-1])
        if self.second:
            arrays[1] = np.array(self.second)
        for number in self.boxes:
            one, other = arrays[number][..., -4:-2].copy(), arrays[number][..., -2:].copy()
            arrays[number][..., -4:-2], arrays[number][..., -2:] = (
                np.minimum(one, other),
                np.maximum(one, other),
            )
        for column in self.whole_columns:
            arrays[0][..., column] = np.round(arrays[0][..., column])
        arrays = [np.round(array) if number in self.whole else array for number, array in enumerate(arrays)]
        return [
            array.astype(np.int32) if number in self.integers else array
            for number, array in enumerate(arrays)
        ]


IMAGE = (2, 4, 9, 7)
# A scalar that float32 does not hold shows where a value is rounded.
TENTH, SEVENTH = "0.1", "0.7"


def one_operator(case: OperatorCase) -> Graph:
    """Return the graph of an operator alone, whose inputs are ``x0``, ``x1``, …."""
    names = [f"x{number}" for number in range(len(case.shapes))]
    count = operators.parse(case.operator, case.attributes).outputs
    heads = [f"out:{number}" for number in range(count)]
    return build(*map(variable, names), (case.operator, "out", case.attributes, names), heads=heads)
