"""Data types of an MXNet graph: nodes in MXNet's order, their operations, and the outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from converter.graphs.operators.code import Code, Compute

Value = int | float | bool | str | tuple[int | None, ...] | tuple[float, ...]
Settings = dict[str, Value]  # hyper-parameters by our names: kernel, stride, padding, eps, …
Entry = tuple[int, int]  # (index of a node in ``Graph.nodes``, index of its output)

VARIABLE = "variable"  # the kind of an input: data, a parameter or a label
CAST = "cast"  # the kind of a cast between floating types; its output i casts its input i


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The function that an operator computes, independent of the operator's name in an MXNet version.

    Attributes:
        kind: the function, such as ``convolution``; ``operators`` lists them.
        roles: the roles of the parameters after the data inputs, such as ``weight`` and ``bias``.
        data_inputs: the number of data inputs, None if any number is allowed.
        settings: the hyper-parameters, defaults included.
        fix_gamma: whether a BatchNorm uses 1 in place of its gamma.
        outputs: the number of outputs.
        takes_label: whether its last data input is a label, which has no effect at inference.
        is_loss: whether it is computed in training only.
        training: the hyper-parameters that have no effect at inference: momentum, dropout.
        code: the operation as PyTorch code, None if it is unknown.
        compute: the operation on arrays: the data inputs, then the parameters.
        refused: the reason why it has no code, "" if the operator is unknown or supported.
        shapes_only: the inputs of which only the shape counts.
        typed_by: the input whose type, integer or floating, its outputs have.
        integers: the outputs that are integers, None if ``typed_by`` decides.
        index_input: the input that contains indices into an axis of a table, None without one.
        length_input: the input that contains lengths of the sequences in the first one, None without one.
        floating_only: whether integers as inputs are refused: MXNet computes them in integers, we would not.
        bias_axis: the axis of its output along which it adds its bias.
        rank: the number of axes of its output, None if unknown.
        input_rank: the number of axes of its first input, None if unknown.
        keeps_rank: whether its output has as many axes as its data inputs.
        discrete: whether it selects or sorts by comparing numbers, as topk and box_nms: the least rounding
            of an input can change which elements its outputs contain.
        precision: the precision in which MXNet computes it for inputs in float64.
    """

    kind: str
    roles: tuple[str, ...] = ()
    data_inputs: int | None = 1
    settings: Settings = field(default_factory=dict)
    fix_gamma: bool = False
    outputs: int = 1
    takes_label: bool = False
    is_loss: bool = False
    training: Settings = field(default_factory=dict, compare=False)
    code: Code | None = field(default=None, compare=False, repr=False)
    compute: Compute | None = field(default=None, compare=False, repr=False)
    refused: str = field(default="", compare=False, repr=False)
    shapes_only: tuple[int, ...] = field(default=(), compare=False, repr=False)
    typed_by: int = field(default=0, compare=False, repr=False)
    integers: tuple[int, ...] | None = field(default=None, compare=False, repr=False)
    index_input: int | None = field(default=None, compare=False, repr=False)
    length_input: int | None = field(default=None, compare=False, repr=False)
    floating_only: bool = field(default=False, compare=False, repr=False)
    bias_axis: int = field(default=1, compare=False, repr=False)
    rank: int | None = field(default=None, compare=False, repr=False)
    input_rank: int | None = field(default=None, compare=False, repr=False)
    keeps_rank: bool = field(default=False, compare=False, repr=False)
    discrete: bool = field(default=False, compare=False, repr=False)
    precision: Literal["float64", "float32"] = field(default="float64", compare=False, repr=False)


VARIABLE_OPERATION = Operation(kind=VARIABLE, data_inputs=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A variable or the application of an operator.

    Attributes:
        number: its place in the file.
        name: its name in the file; MXNet allows several nodes with the same name.
        operator: MXNet's name of the operator, ``null`` for a variable.
        operation: the function that the operator computes.
        inputs: its input entries, in MXNet's order.
    """

    number: int = field(compare=False)
    name: str
    operator: str
    operation: Operation
    inputs: tuple[Entry, ...]

    @property
    def parameters(self) -> tuple[Entry, ...]:
        """The entries of its parameters, which come last, in the order of their roles."""
        return self.inputs[len(self.inputs) - len(self.operation.roles) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The part of a symbol file that its outputs depend on.

    Attributes:
        file: the file's name in messages, with its archive if it is a member of one.
        name: the file name.
        content: the file's bytes.
        path: the file's path, None for a member of an archive.
        nodes: depth first from the outputs, inputs before their use: the order of MXNet's ``tojson()``.
        outputs: the output entries.
    """

    file: str = field(compare=False)
    name: str = field(compare=False)
    content: bytes = field(compare=False, repr=False)
    path: Path | None = field(compare=False)
    nodes: tuple[Node, ...]
    outputs: tuple[Entry, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of all variables, each once: data, parameters and labels."""
        names = (node.name for node in self.nodes if node.operation.kind == VARIABLE)
        return tuple(dict.fromkeys(names))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the variables that supported operators take as parameters, each once."""
        names = (
            self.nodes[index].name
            for node in self.nodes
            if node.operation.roles
            for index, _ in node.inputs[node.operation.data_inputs :]
            if self.nodes[index].operation.kind == VARIABLE
        )
        return tuple(dict.fromkeys(names))

    def parameters_of(self, node: Node) -> dict[str, str]:
        """Return the variables of a node's parameters, by role."""
        names = (self.nodes[index].name for index, _ in node.parameters)
        return dict(zip(node.operation.roles, names, strict=True))


def descendants(nodes: Sequence[Node], roots: Iterable[int]) -> set[int]:
    """Return the indices of the nodes that depend on any of the given ones, and these."""
    found = set(roots)
    for index, node in enumerate(nodes):
        if any(source in found for source, _ in node.inputs):
            found.add(index)
    return found


def after_discrete(nodes: Sequence[Node]) -> set[int]:
    """Return the indices of the discrete nodes, and of those that depend on one."""
    return descendants(nodes, [index for index, node in enumerate(nodes) if node.operation.discrete])
