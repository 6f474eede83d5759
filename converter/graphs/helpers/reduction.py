"""Reductions over the axes that are not named."""

from __future__ import annotations

from torch import Tensor  # noqa: TC002 - the source is copied


def other_axes(x: Tensor, axes: tuple[int, ...]) -> list[int]:
    """Return the axes of a tensor without the given ones."""
    return [axis for axis in range(x.dim()) if axis not in axes]
