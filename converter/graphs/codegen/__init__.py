"""Generates the source of a PyTorch module from a graph.

The source imports torch alone. Nothing of a file becomes code: identifiers are made of ASCII letters, digits
and underscores, numbers are formatted from parsed values, and the names in the docstring are escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.graphs import support
from converter.graphs.codegen import blocks, folding, helpers_source, rendering, scopes, steps
from converter.graphs.codegen.identifiers import unique

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.graph import Graph
    from converter.graphs.operators.code import Shape

IMPORTS = {
    "torch.": "import torch",
    "F.": "import torch.nn.functional as F",
    "Tensor": "from torch import Tensor, nn",
}
LOAD = '''def load(path: str) -> Network:
    """Return the network with the weights of a safetensors file, in evaluation mode."""
    network = Network()
    state = read_safetensors(path, list(network.state_dict()))
    network.load_state_dict(state, assign=True)
    return network.eval()'''


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedModule:
    """The source of a module, and how the graph's names became its own.

    Attributes:
        source: the Python source.
        tensors: the names in the state dict, by the graph's variables.
        layers: the name of the layer that computes a node's output, by the node's index.
        expressions: the expression of the inputs ``{0}``, ``{1}``, … and of its ``{layer}`` that computes a
            node's outputs, by the node's index; a node without one returns its first input.
        constants: the name of the buffer that a node without inputs takes, by the node's index.
        ones: the variables in whose place the network takes ones: gammas that MXNet fixes.
        inputs: the names of the input variables in the graph.
    """

    source: str
    tensors: dict[str, str]
    layers: dict[int, str]
    expressions: dict[int, str]
    constants: dict[int, str]
    ones: frozenset[str]
    inputs: tuple[str, ...]


def generate(graph: Graph, shapes: Mapping[str, Shape], title: str) -> GeneratedModule:
    """Generate a module.

    Args:
        graph: a graph for inference.
        shapes: the shapes of its parameters; the other variables are inputs.
        title: the name of the graph's file, for the docstring.

    Raises:
        SymbolError: if the graph has operators that cannot be converted.
    """
    support.require(graph)
    program = steps.lower(graph, shapes)
    root = scopes.group(program)
    blocks.group_repeated(root)
    scopes.connect(root, program)
    taken = dict.fromkeys(helpers_source.names(), 1)
    inputs = [graph.nodes[index].name for index in program.inputs]
    names = [unique(name, taken) for name in rendering.input_names(inputs)]
    classes = folding.fold(root, names)
    outputs = [graph.nodes[index].name for index, _ in graph.outputs]
    helpers = {name for step in program.steps for name in step.helpers} | {"read_safetensors"}
    parts = [
        *("\n".join(rendering.render(each)) for each in classes),
        *helpers_source.sources(helpers),
        LOAD,
    ]
    code = "\n\n\n".join(parts) + "\n"
    imports = [line for name, line in IMPORTS.items() if re.search(rf"\b{re.escape(name)}", code)]
    source = "\n".join([*rendering.describe(title, inputs, outputs), "", *imports, "", "", code])
    members = [(step.node, step.member) for step in program.steps if step.member]
    return GeneratedModule(
        source=source,
        tensors={
            variable: ".".join(filter(None, [*member.path, tensor]))
            for _, member in members
            for variable, tensor in member.tensors.items()
        },
        layers={node: ".".join(member.path) for node, member in members if not member.is_tensor},
        expressions={
            step.node: step.template
            for step in program.steps
            if not (step.member and step.member.is_parameter)
        },
        constants={node: ".".join(member.path) for node, member in members if member.is_constant},
        ones=_fixed_gammas(graph),
        inputs=tuple(inputs),
    )


def _fixed_gammas(graph: Graph) -> frozenset[str]:
    return frozenset(graph.nodes[node.inputs[1][0]].name for node in graph.nodes if node.operation.fix_gamma)
