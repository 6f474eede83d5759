"""Turns the nodes of a graph into steps: the application of a layer, an expression, or a tensor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.graphs import dtypes
from converter.graphs.codegen import ranks
from converter.graphs.codegen.identifiers import GLUON_SUFFIX, common_start, words
from converter.graphs.graph import VARIABLE
from converter.graphs.implicit import MXNET_ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.graph import Entry, Graph, Node
    from converter.graphs.operators.code import Arguments, Shape, TorchLayer

PARAMETER, BUFFER = "nn.Parameter", "register_buffer"
CONSTANT = "constant "  # precedes the expression of a tensor that is no parameter
STATISTICS = ("running_mean", "running_var")  # roles of tensors that are not trained
IDENTITY = "{0}"
FLAT_RANK = 2
WEIGHT = (1, 1)  # the least shape of a weight: outputs and inputs
FLATTENED = "{0}.flatten(1)"


@dataclass(slots=True, kw_only=True)
class Member:
    """A layer or tensor of a module.

    Attributes:
        words: the words of its name.
        type: its class, or ``nn.Parameter`` or ``register_buffer``; of a constant, its expression.
        arguments: the arguments of its class; of a tensor, the sizes.
        tensors: the names of its tensors, by the graph's variables.
        path: its place: the scopes and its own name; set by ``scopes``.
        constants: the names of its tensors that are not trained.
    """

    words: tuple[str, ...]
    type: str
    arguments: Arguments
    tensors: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor and not a layer."""
        return self.is_parameter or self.is_constant

    @property
    def is_parameter(self) -> bool:
        """Whether it is a tensor of the state dict."""
        return self.type in {PARAMETER, BUFFER}

    @property
    def is_constant(self) -> bool:
        """Whether it is a tensor that is no parameter."""
        return self.type.startswith(CONSTANT)


@dataclass(slots=True, kw_only=True, eq=False)
class Step:
    """A statement of ``forward``.

    Attributes:
        node: the index of its node.
        words: the words of the node's name.
        template: an expression of the inputs ``{0}``, ``{1}``, … and of its member ``{layer}``.
        inputs: the entries of the inputs.
        outputs: the number of outputs.
        member: the layer or tensor that it uses.
        helpers: the functions that it calls.
    """

    node: int
    words: tuple[str, ...]
    template: str
    inputs: tuple[Entry, ...]
    outputs: int = 1
    member: Member | None = None
    helpers: tuple[str, ...] = ()


@dataclass(slots=True)
class Program:
    """A graph as steps.

    Attributes:
        steps: the steps, each after those that it depends on.
        inputs: the indices of the input variables.
        outputs: the entries of the outputs.
    """

    steps: list[Step]
    inputs: list[int]
    outputs: tuple[Entry, ...]


def lower(graph: Graph, shapes: Mapping[str, Shape]) -> Program:
    """Return a graph as steps.

    Args:
        graph: a graph of supported operators.
        shapes: the shapes of its parameters; the other variables are inputs.
    """
    return _Lowering(graph, shapes).run()


class _Lowering:
    def __init__(self, graph: Graph, shapes: Mapping[str, Shape]) -> None:
        self.graph = graph
        self.shapes = shapes
        self.ranks = ranks.infer(graph)
        self.integers = dtypes.integers(graph)
        self.uses = Counter(index for node in graph.nodes for index, _ in node.inputs)
        self.uses.update(index for index, _ in graph.outputs)
        self.aliases: dict[Entry, Entry] = {}
        self.members: dict[object, Member] = {}
        self.tensors: dict[int, Step] = {}
        self.steps: list[Step] = []
        self.inputs: list[int] = []
        self.layer_uses = Counter(_layer_key(node) for node in graph.nodes if node.operation.roles)

    def run(self) -> Program:
        for index, node in enumerate(self.graph.nodes):
            if node.operation.kind != VARIABLE:
                self._add(index, node)
            elif node.name not in self.shapes:
                self.inputs.append(index)
        outputs = tuple(self._use(entry) for entry in self.graph.outputs)
        return Program(self.steps, self.inputs, outputs)

    def _add(self, index: int, node: Node) -> None:
        code = node.operation.code
        if code is None:
            raise ValueError(f"{node.operator} has no code")
        layer = code.layer if self._owns_parameters(node) else None
        if layer and "{dims}" in layer.type and node.inputs[0][0] not in self.ranks:
            layer = None
        on_integers = bool(code.on_integers) and node.inputs[0] in self.integers
        expression = code.on_integers if on_integers else code.expression
        if layer is None and expression == IDENTITY:
            self.aliases[index, 0] = self._resolve(node.inputs[0])
            return
        if layer is None and not code.expression:
            layer = code.layer
        if layer is not None:
            member = self._layer(index, node, layer)
            inputs = tuple(map(self._use, node.inputs[: len(node.inputs) - len(node.parameters)]))
            template = layer.applied
            if self.ranks.get(node.inputs[0][0]) == FLAT_RANK:
                template = template.replace(FLATTENED, IDENTITY)
        else:
            member = None
            if code.constant:
                member = Member(words=_node_words(node), type=f"{CONSTANT}{code.constant}", arguments={})
            inputs, template = self._functional_inputs(node), expression
            if code.removed_axes and self.ranks.get(node.inputs[0][0], 0) <= code.removed_axes:
                template = f"torch.atleast_1d({template})"
        self.steps.append(
            Step(
                node=index,
                words=_node_words(node),
                template=_filled(template, len(inputs)),
                inputs=inputs,
                outputs=node.operation.outputs,
                member=member,
                helpers=layer.helpers if layer else code.helpers,
            )
        )

    def _owns_parameters(self, node: Node) -> bool:
        """Return whether every parameter is a variable with a value, used by this kind of layer alone."""
        return all(
            self.graph.nodes[index].operation.kind == VARIABLE
            and self.graph.nodes[index].name in self.shapes
            and self.uses[index] == self.layer_uses[_layer_key(node)]
            for index, _ in node.parameters
        )

    def _layer(self, index: int, node: Node, layer: TorchLayer) -> Member:
        operation = node.operation
        variables = [self.graph.nodes[each].name for each, _ in node.parameters]
        key = _layer_key(node) if variables else index
        if key not in self.members:
            shapes = {role: self.shapes[name] for role, name in zip(operation.roles, variables, strict=False)}
            if len(shapes.get("weight", WEIGHT)) < len(WEIGHT):
                raise MappingError(f"{variables[0]} has the shape {shapes['weight']}, which is no weight's")
            rank = self.ranks.get(node.inputs[0][0], FLAT_RANK)
            self.members[key] = Member(
                words=_layer_words(node, dict(zip(operation.roles, variables, strict=False))),
                type=layer.type.format(dims=max(1, rank - FLAT_RANK)),
                arguments=layer.arguments(shapes),
                tensors={
                    name: layer.tensors[role] for role, name in zip(operation.roles, variables, strict=False)
                },
                constants=layer.constants,
            )
        return self.members[key]

    def _functional_inputs(self, node: Node) -> tuple[Entry, ...]:
        count = len(node.inputs) - len(node.operation.roles)
        roles = ("",) * count + node.operation.roles
        return tuple(self._use(entry, role) for entry, role in zip(node.inputs, roles, strict=True))

    def _use(self, entry: Entry, role: str = "") -> Entry:
        """Return the entry of a value, and add the step of a tensor that is used as a value."""
        index, _ = self._resolve(entry)
        node = self.graph.nodes[index]
        if node.operation.kind == VARIABLE and node.name in self.shapes and index not in self.tensors:
            kind = BUFFER if role in STATISTICS else PARAMETER
            sizes: Arguments = {f"_{axis}": size for axis, size in enumerate(self.shapes[node.name])}
            member = Member(words=words(node.name), type=kind, arguments=sizes, tensors={node.name: ""})
            step = Step(node=index, words=member.words, template="{layer}", inputs=(), member=member)
            self.tensors[index] = step
            self.steps.append(step)
        return self._resolve(entry)

    def _resolve(self, entry: Entry) -> Entry:
        return self.aliases.get(entry, entry)


def _layer_key(node: Node) -> tuple[object, ...]:
    """Return what the nodes that use one layer have in common: operator, settings and parameters."""
    operation = node.operation
    return node.operator, str(operation.settings), operation.fix_gamma, node.parameters


def _filled(template: str, count: int) -> str:
    """Return a template in which every input has its own place."""
    names = [f"{{{number}}}" for number in range(count)]
    return template.replace("{inputs}", ", ".join(names)).replace("{terms}", " + ".join(names))


def _node_words(node: Node) -> tuple[str, ...]:
    found = words(node.name)
    return found[:-1] if found[-1:] == (GLUON_SUFFIX,) else found


def _layer_words(node: Node, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the words that the names of a layer's parameters have in common, or those of its node."""
    if len(variables) == 1:
        ((role, name),) = variables.items()
        found = words(name)
        return found[:-1] if len(found) > 1 and found[-1] in words(MXNET_ROLES.get(role, role)) else found
    if variables:
        return common_start([words(name) for name in variables.values()]) or _node_words(node)
    return _node_words(node)
