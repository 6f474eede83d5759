"""Data types of generated PyTorch code: an expression, or a layer with parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.dtypes import Array

Shape = tuple[int, ...]
Argument = int | float | bool | str | tuple[int, ...]  # of a layer; a str is one of our own constants
Arguments = dict[str, Argument]  # by PyTorch's names; those that begin with "_" are passed by position
Compute = Callable[..., Any]  # takes the input arrays, returns one or a tuple of several
MakeArguments = Callable[[Mapping[str, Shape]], Arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchLayer:
    """A module of ``torch.nn``.

    Attributes:
        type: its class; ``{dims}`` stands for the number of axes after (n, channels).
        arguments: returns the arguments of its constructor from the shapes of its parameters, by role.
        tensors: the name of each parameter in the module, by role.
        applied: how it is applied: an expression of ``{layer}`` and the data inputs.
        constants: the parameters that are not trained, by their names in the module.
        helpers: the class in ``graphs.helpers``, for layers that ``torch.nn`` lacks.
    """

    type: str
    arguments: MakeArguments
    tensors: Mapping[str, str] = field(default_factory=dict)
    applied: str = "{layer}({0})"
    constants: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """An operation in PyTorch.

    Everything in it is a constant of ours or a formatted number: no text of a file.

    Attributes:
        expression: an expression of the inputs ``{0}``, ``{1}``, …, or of all of them: ``{inputs}``,
            separated by commas, and ``{terms}``, by plus signs. Its
            value is a sequence if the operation has several outputs. Empty if there is only a layer.
        layer: used in place of the expression if every parameter is a variable that no other layer has.
        helpers: the functions of ``graphs.helpers`` that the expression calls.
        constant: an expression without inputs that yields a tensor, ``{layer}`` in the expression.
        on_integers: used in place of the expression if the first input is a tensor of integers.
        removed_axes: the number of axes that its value has less than the first input. MXNet keeps one; if
            all may be removed, ``torch.atleast_1d`` is added.
    """

    expression: str = ""
    layer: TorchLayer | None = None
    helpers: tuple[str, ...] = ()
    constant: str = ""
    on_integers: str = ""
    removed_axes: int = 0


def identity(x: Array) -> Array:
    """Return the input."""
    return x
