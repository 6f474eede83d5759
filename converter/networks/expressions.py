"""Networks as expressions: what an operation computes, on which parameters, of which other expressions.

Where a graph and a model have equal expressions, they compute the same function once their hyper-parameters
are equal too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.graphs import operators
from converter.graphs.graph import VARIABLE
from converter.networks.definition import GluonNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.graph import Entry, Graph, Operation, Value
    from converter.networks.catalog import Model

COMMUTATIVE = {operators.ADD, operators.MULTIPLY}
INPUT, UNFLATTENED = "input", "dense without flattening"
PLAIN_SOFTMAX: dict[str, tuple[Value, ...]] = {  # of (n, classes): the values, the default first
    "axis": (-1, 1),
    "temperature": (1.0,),
    "use_length": (False,),
}
MAX_DEPTH = 3  # of a description: each level names an operation
MAX_INPUTS = 4  # of an operation in a description


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """The application of an operation.

    Attributes:
        kind: the kind of operation.
        params: the parameters that it takes, by structural names.
        inputs: the numbers of the expressions that it reads; sorted where their order does not matter.
    """

    kind: str
    params: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()


class ExpressionTable:
    """Expressions by number; equal expressions have one number."""

    def __init__(self) -> None:
        self._numbers: dict[Expression, int] = {}
        self._expressions: list[Expression] = []
        self.input = self.add(INPUT)

    def __getitem__(self, number: int) -> Expression:
        return self._expressions[number]

    def add(self, kind: str, params: tuple[str, ...] = (), inputs: tuple[int, ...] = ()) -> int:
        """Return the number of an expression, a new one if it is new."""
        order = tuple(sorted(inputs)) if kind in COMMUTATIVE else inputs
        expression = Expression(kind=kind, params=params, inputs=order)
        number = self._numbers.setdefault(expression, len(self._expressions))
        if number == len(self._expressions):
            self._expressions.append(expression)
        return number

    def describe(self, number: int, layers: Mapping[int, str], depth: int = MAX_DEPTH) -> str:
        """Return an expression in words; the expressions it reads go by their layers' names."""
        expression = self[number]
        names = [
            layers.get(each) or (self.describe(each, layers, depth - 1) if depth else "…")
            for each in expression.inputs[:MAX_INPUTS]
        ]
        names += ["…"] * (len(expression.inputs) > MAX_INPUTS)
        own = list(dict.fromkeys(name.rpartition(".")[0] or name for name in expression.params))
        operation = " ".join(filter(None, [expression.kind, ", ".join(own)]))
        return f"{operation} of {' and '.join(names)}" if names else operation


@dataclass(slots=True)
class ModelExpressions:
    """A model's operations by the numbers of their expressions, in order, and its layers' outputs."""

    table: ExpressionTable
    operations: dict[int, Operation] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)

    def apply(self, operation: Operation, inputs: tuple[int, ...], layer: str) -> int:
        """Record an operation (``definition.Operators``)."""
        number = self.table.add(operation.kind, tuple(f"{layer}.{role}" for role in operation.roles), inputs)
        self.operations[number] = operation
        return number

    @property
    def output(self) -> int:
        """The expression that the model returns: its last layer's."""
        return next(reversed(self.layers.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphExpressions:
    """A graph's nodes as expressions.

    Attributes:
        nodes: the nodes that compute each expression, by its number; identities are left out.
        data: the name of the input variable.
        output: the expression that the graph returns, without a final softmax.
        softmax: whether it ends in a softmax over the classes.
    """

    nodes: dict[int, list[int]]
    data: str
    output: int
    softmax: bool


def of_model(model: Model, table: ExpressionTable) -> ModelExpressions:
    """Run a model's definition on expressions."""
    recorded = ModelExpressions(table)
    for output in GluonNetwork(model.source_shapes, recorded).run(table.input):
        recorded.layers[output.layer] = output.value
    return recorded


def of_graph(graph: Graph, tensors: Mapping[str, str], table: ExpressionTable) -> GraphExpressions:
    """Express a graph's nodes.

    Args:
        graph: the graph.
        tensors: the structural names of its parameters.
        table: where to add the expressions.
    """
    walk = _Walk(graph, tensors, table)
    for index in range(len(graph.nodes)):
        walk.visit(index)
    output, softmax = walk.output()
    return GraphExpressions(nodes=walk.nodes, data=walk.data, output=output, softmax=softmax)


class _Walk:
    """Expresses a graph node by node."""

    def __init__(self, graph: Graph, tensors: Mapping[str, str], table: ExpressionTable) -> None:
        self.graph = graph
        self.tensors = tensors
        self.table = table
        self.data = _data_variable(graph, tensors)
        self.values: list[int] = []
        self.nodes: dict[int, list[int]] = {}
        self.flattened: dict[int, int] = {}  # by the expression of a flattening, what it flattens

    def visit(self, index: int) -> None:
        node = self.graph.nodes[index]
        kind = node.operation.kind
        if kind == VARIABLE:
            is_data = node.name == self.data
            self.values.append(self.table.input if is_data else self.table.add(VARIABLE, (node.name,)))
            return
        count = node.operation.data_inputs
        inputs = tuple(map(self._value, node.inputs[:count]))
        params = tuple(map(self._param, node.inputs[len(inputs) :]))
        if kind == operators.IDENTITY:
            self.values.append(inputs[0])
            return
        if kind == operators.DENSE:
            kind, inputs = self._dense(node.operation, inputs)
        number = self.table.add(kind, params, inputs)
        if kind == operators.FLATTEN:
            self.flattened[number] = inputs[0]
        self.values.append(number)
        self.nodes.setdefault(number, []).append(index)

    def output(self) -> tuple[int, bool]:
        """Return the expression of the graph's output without a softmax, and whether there was one."""
        values = tuple(map(self._value, self.graph.outputs))
        if len(values) != 1:
            return self.table.add("a group", inputs=values), False
        nodes = [self.graph.nodes[index] for index in self.nodes.get(values[0], ())]
        if nodes and all(_is_plain_softmax(node.operation) for node in nodes):
            return self.table[values[0]].inputs[0], True
        return values[0], False

    def _value(self, entry: Entry) -> int:
        index, output = entry
        value = self.values[index]
        return self.table.add(f"output {output}", inputs=(value,)) if output else value

    def _param(self, entry: Entry) -> str:
        index, output = entry
        node = self.graph.nodes[index]
        if node.operation.kind != VARIABLE or output:
            return f"{node.operation.kind} {node.name}"
        return self.tensors.get(node.name, node.name)

    def _dense(self, operation: Operation, inputs: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Look through a flattening before a dense layer, which flattens its input unless told not to."""
        (value,) = inputs
        if not operation.settings["flatten"] and value not in self.flattened:
            return UNFLATTENED, inputs
        while value in self.flattened:
            value = self.flattened[value]
        return operation.kind, (value,)


def _data_variable(graph: Graph, tensors: Mapping[str, str]) -> str:
    """Return the first variable that is read as data and is no parameter; "" if there is none."""
    for node in graph.nodes:
        for index, _ in node.inputs[: node.operation.data_inputs]:
            variable = graph.nodes[index]
            if variable.operation.kind == VARIABLE and variable.name not in tensors:
                return variable.name
    return ""


def _is_plain_softmax(operation: Operation) -> bool:
    return operation.kind == operators.SOFTMAX and all(
        operation.settings.get(key, plain[0]) in plain for key, plain in PLAIN_SOFTMAX.items()
    )
