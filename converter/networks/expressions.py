"""Networks as expressions: an operation, its parameters, and the expressions that are its inputs.

A graph and a model with equal expressions and equal hyper-parameters compute the same function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.graphs import operators
from converter.graphs.graph import VARIABLE
from converter.networks.definition import GluonNetwork

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from converter.graphs.graph import Entry, Graph, Operation, Value
    from converter.networks.catalog import Model

COMMUTATIVE = {operators.ADD, operators.MULTIPLY}
INPUT, UNFLATTENED = "input", "dense without flattening"
PLAIN_SOFTMAX: dict[str, tuple[Value, ...]] = {  # on (n, classes): accepted values, default first
    "axis": (-1, 1),
    "temperature": (1.0,),
    "use_length": (False,),
}
MAX_DEPTH = 3  # of a description; each level is an operation
MAX_INPUTS = 4  # of an operation in a description


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """The application of an operation.

    Attributes:
        kind: the kind of operation.
        params: the structural names of its parameters.
        inputs: the numbers of the input expressions, sorted if the operation is commutative.
    """

    kind: str
    params: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()


class ExpressionTable:
    """Numbers expressions; equal expressions share a number."""

    def __init__(self) -> None:
        self._numbers: dict[Expression, int] = {}
        self._expressions: list[Expression] = []
        self.input = self.add(INPUT)

    def __getitem__(self, number: int) -> Expression:
        return self._expressions[number]

    def add(self, kind: str, params: tuple[str, ...] = (), inputs: tuple[int, ...] = ()) -> int:
        """Return the number of an expression, adding it if it is new."""
        order = tuple(sorted(inputs)) if kind in COMMUTATIVE else inputs
        expression = Expression(kind=kind, params=params, inputs=order)
        number = self._numbers.setdefault(expression, len(self._expressions))
        if number == len(self._expressions):
            self._expressions.append(expression)
        return number

    def describe(self, number: int, layers: Mapping[int, str], depth: int = MAX_DEPTH) -> str:
        """Return an expression in words, with its inputs named by their layers if these are known."""
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
    """A model as expressions.

    Attributes:
        table: the expressions.
        operations: the operation of each expression, by its number, in the order of the network.
        layers: the number of each layer's output, by structural layer name.
        is_part: whether the model is part of a larger network.
    """

    table: ExpressionTable
    operations: dict[int, Operation] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    is_part: bool = False

    def apply(self, operation: Operation, inputs: tuple[int, ...], layer: str) -> int:
        """Record an operation; implements ``definition.Operators``."""
        number = self.table.add(operation.kind, tuple(f"{layer}.{role}" for role in operation.roles), inputs)
        self.operations[number] = operation
        return number

    @property
    def output(self) -> int:
        """The number of the model's output: that of its last layer."""
        return next(reversed(self.layers.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphExpressions:
    """A graph's nodes as expressions.

    Attributes:
        nodes: the indices of the nodes that compute each expression, by its number, without identities.
        data: the name of the input variable.
        output: the number of the graph's output, without a final softmax.
        softmax: whether the graph ends in a softmax over the classes.
    """

    nodes: dict[int, list[int]]
    data: str
    output: int
    softmax: bool


def of_model(model: Model, table: ExpressionTable) -> ModelExpressions:
    """Run a model's definition on expressions."""
    expressions = ModelExpressions(table)
    for output in GluonNetwork(model.source_shapes, expressions, model.config.output_stride).run(table.input):
        expressions.layers[output.layer] = output.value
    return expressions


def of_graph(
    graph: Graph, tensors: Mapping[str, str], table: ExpressionTable, zeros: Collection[str] = ()
) -> GraphExpressions:
    """Return a graph's nodes as expressions.

    Args:
        graph: the graph.
        tensors: the structural name of each of its parameters, by variable name.
        table: the table to which the expressions are added.
        zeros: the structural names of the biases that the graph lacks because they are zero.
    """
    walk = _Walk(graph, tensors, table, zeros)
    for index in range(len(graph.nodes)):
        walk.visit(index)
    output, softmax = walk.output()
    return GraphExpressions(nodes=walk.nodes, data=walk.data, output=output, softmax=softmax)


class _Walk:
    """Converts a graph to expressions node by node."""

    def __init__(
        self, graph: Graph, tensors: Mapping[str, str], table: ExpressionTable, zeros: Collection[str]
    ) -> None:
        self.graph = graph
        self.tensors = tensors
        self.table = table
        self.zeros = zeros
        self.data = _data_variable(graph, tensors)
        self.values: list[int] = []
        self.nodes: dict[int, list[int]] = {}
        self.flattened: dict[int, int] = {}  # the input of each flattening, by number

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
            params = self._with_zero_bias(params)
            kind, inputs = self._dense(node.operation, inputs)
        number = self.table.add(kind, params, inputs)
        if kind == operators.FLATTEN:
            self.flattened[number] = inputs[0]
        self.values.append(number)
        self.nodes.setdefault(number, []).append(index)

    def output(self) -> tuple[int, bool]:
        """Return the number of the graph's output without a final softmax, and whether there is one.

        A final flattening is skipped: the output of a network without a head is that of its pool.
        """
        values = tuple(map(self._value, self.graph.outputs))
        if len(values) != 1:
            return self.table.add("a group", inputs=values), False
        nodes = [self.graph.nodes[index] for index in self.nodes.get(values[0], ())]
        if nodes and all(_is_plain_softmax(node.operation) for node in nodes):
            return self.table[values[0]].inputs[0], True
        return self.flattened.get(values[0], values[0]), False

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

    def _with_zero_bias(self, params: tuple[str, ...]) -> tuple[str, ...]:
        """Return the parameters of a dense layer, with the bias that it lacks if that is zero."""
        bias = f"{params[0].removesuffix('.weight')}.bias"
        return (*params, bias) if len(params) == 1 and bias in self.zeros else params

    def _dense(self, operation: Operation, inputs: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Skip a flattening before a dense layer: by default the dense layer flattens its input."""
        (value,) = inputs
        if not operation.settings["flatten"] and value not in self.flattened:
            return UNFLATTENED, inputs
        while value in self.flattened:
            value = self.flattened[value]
        return operation.kind, (value,)


def _data_variable(graph: Graph, tensors: Mapping[str, str]) -> str:
    """Return the first data input that is a variable and not a parameter, "" if there is none."""
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
