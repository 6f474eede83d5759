"""The codes of MXNet's Reshape.

0 keeps a size, -1 infers it, -2 keeps all that remain, -3 joins two, -4 splits one by the next two numbers.

Source: InferReshapeShape in src/operator/tensor/matrix_op-inl.h, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.operators.attributes import Axes
    from converter.graphs.operators.code import Shape

KEEP, INFER, REST, JOIN, SPLIT = 0, -1, -2, -3, -4
PARTS = 2  # of a split


class Reshaping:
    """A parsed shape argument.

    Args:
        shape: the codes.
        reverse: whether they are matched from the last axis on.
    """

    def __init__(self, shape: Axes, *, reverse: bool) -> None:
        self.reverse = reverse
        self.refused = ""
        try:
            self.steps = list(_steps(shape[::-1] if reverse else shape, reverse=reverse))
        except ValueError as error:
            self.refused = str(error)

    @property
    def rank(self) -> int | None:
        """The number of axes of the result, None if it depends on the input."""
        if any(code == REST for code, *_ in self.steps):
            return None
        return sum(PARTS if code == SPLIT else 1 for code, *_ in self.steps)

    def expression(self) -> str:
        """Return the reshaped tensor ``{0}`` as PyTorch code."""
        codes = [code for code, *_ in self.steps]
        if codes == [KEEP, INFER] and not self.reverse:
            return "{0}.flatten(1)"
        sizes = [size for step in self.steps for size in self._sizes(*step)]
        return f"{{0}}.reshape({', '.join(sizes[::-1] if self.reverse else sizes)})"

    def apply(self, shape: Shape) -> list[int]:
        """Return the new shape, in which one size may be -1."""
        given = shape[::-1] if self.reverse else shape
        sizes = [size for step in self.steps for size in _apply(given, *step)]
        return sizes[::-1] if self.reverse else sizes

    def _sizes(self, code: int, axis: int, *parts: int) -> list[str]:
        if code == REST:
            return [f"*{{0}}.shape[:{-axis or ''}]" if self.reverse else f"*{{0}}.shape[{axis or ''}:]"]
        size, following = (f"{{0}}.shape[{-1 - at if self.reverse else at}]" for at in (axis, axis + 1))
        if code == SPLIT:
            one, other = parts
            return [
                f"{size} // {other}" if one == INFER else str(one),
                f"{size} // {one}" if other == INFER else str(other),
            ]
        return [{KEEP: size, JOIN: f"{size} * {following}"}.get(code, str(code))]


def _steps(codes: Axes, *, reverse: bool) -> Iterator[tuple[int, ...]]:
    """Yield (code, axis of the input, parts of a split) for each code.

    Raises:
        ValueError: if a code is unknown or incomplete.
    """
    axis, place = 0, 0
    while place < len(codes):
        code = codes[place]
        if reverse and code == SPLIT:
            raise ValueError("a split in a reversed shape is not supported")
        if code < SPLIT:
            raise ValueError(f"shape has the unknown code {code}")
        if code == SPLIT:
            parts = codes[place + 1 : place + 1 + PARTS]
            if len(parts) < PARTS or max(parts) < 1 or min(parts) < INFER:
                raise ValueError("shape has an invalid split")
            yield code, axis, *parts
            place += PARTS
        else:
            yield code, axis
        axis += PARTS if code == JOIN else 1
        place += 1


def _apply(shape: Shape, code: int, axis: int, *parts: int) -> list[int]:
    if code == REST:
        return list(shape[axis:])
    if code == SPLIT:
        one, other = parts
        return [
            shape[axis] // other if one == INFER else one,
            shape[axis] // one if other == INFER else other,
        ]
    if code == JOIN:
        return [shape[axis] * shape[axis + 1]]
    return [shape[axis] if code == KEEP else code]
