"""Nothing in a graph becomes code, and no graph stops the reader or the generator with another error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
from graph_building import Network, build, variable
from hostile_graphs import IMAGE, Document, hostile_graphs, valid_graphs
from hypothesis import HealthCheck, given, settings

from converter.errors import ConversionError, MappingError, SymbolError
from converter.graphs import codegen, execute, pruning, reader
from converter.graphs.codegen.safe_source import require_safe

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Graph

LIMIT = 1e-9  # relative to the largest output; 2e-13 measured
graph_settings = settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def read(document: Document) -> Graph:
    return reader.parse(document.content(), file="net-symbol.json", name="net-symbol.json")


def parameter_shapes(document: Document) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in document.shapes.items() if shape != IMAGE}


def generate(document: Document, title: str = "net") -> GeneratedModule:
    return codegen.generate(pruning.prune(read(document)).graph, parameter_shapes(document), title)


def random_arrays(document: Document) -> dict[str, Array]:
    generator = np.random.Generator(np.random.PCG64(0))
    return {name: generator.uniform(0.5, 1, shape) for name, shape in document.shapes.items()}


@graph_settings
@given(document=valid_graphs())
def test_source_of_a_graph_with_strange_names_is_safe_and_computes_the_graph(document: Document) -> None:
    graph = pruning.prune(read(document)).graph
    title = document.nodes[0]["name"]
    module = codegen.generate(graph, parameter_shapes(document), title)
    require_safe(module.source)
    assert module == codegen.generate(pruning.prune(read(document)).graph, parameter_shapes(document), title)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) for name in module.tensors.values())
    assert len({*module.tensors.values()}) == len(module.tensors)
    arrays = random_arrays(document)
    inputs = {name: arrays[name] for name in module.inputs}
    expected = execute.outputs(graph, inputs, arrays)
    actual = generated_modules.outputs(generated_modules.network(module, arrays), *inputs.values())
    for ours, theirs in zip(actual, expected, strict=True):
        limit = LIMIT * max(1, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


@settings(graph_settings, max_examples=150)
@given(document=hostile_graphs())
def test_hostile_graph_becomes_safe_source_or_is_refused(document: Document) -> None:
    try:
        module = generate(document)
    except ConversionError:
        return
    require_safe(module.source)


def compared(graph: Graph, shapes: dict[str, tuple[int, ...]], *inputs: Array) -> str:
    """Return the source of a graph, which computes what the graph does."""
    module = codegen.generate(graph, shapes, "net")
    require_safe(module.source)
    arrays = generated_modules.random_parameters(shapes)
    expected = execute.outputs(graph, dict(zip(module.inputs, inputs, strict=True)), arrays)
    actual = generated_modules.outputs(generated_modules.network(module, arrays), *inputs)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=LIMIT)
    return module.source


@pytest.mark.parametrize("scope", ["none", "true", "f", "tensor", "network", "load", "nn"])
def test_class_of_a_scope_hides_no_other_name(scope: str) -> None:
    net, x = Network(), "data"
    for name in (f"{scope}_conv1", f"{scope}_conv2", "other_conv1", "other_conv2"):
        x = net.apply("relu", f"{name}_relu", net.conv(name, x, 3, 3))
    source = compared(net.build(x), net.shapes, np.ones(IMAGE))
    assert re.search(rf"class {scope.capitalize()}2?\(", source)


@pytest.mark.parametrize(
    "names",
    [
        [f"{word}{number}" for number in range(1, 7)]
        if digits
        else [f"{word}_{number}" for number in range(1, 7)]
        for word in ("class", "float", "train", "if", "forward")
        for digits in (True, False)
    ]
    + [["q", "q_2", "q1_2", "q_4", "q_5", "q1_6"], ["q_1", "q1_1", "q_2", "q_3", "q1_3", "q_4"]],
    ids=lambda names: names[0],
)
def test_layers_of_repeated_blocks_have_names_of_their_own(names: list[str]) -> None:
    net, x = Network(), "data"
    size = len(names) // 2
    for number in range(2):
        y = x
        for name in names[number * size : (number + 1) * size]:
            y = net.conv(name, y, 3, 3)
        x = net.apply("elemwise_add", f"plus{number}", y, x)
    assert "self.block1 = " in compared(net.build(x), net.shapes, np.ones(IMAGE))


def test_input_with_the_name_of_a_function_hides_it_not() -> None:
    graph = build(
        variable("where"),
        variable("take"),
        ("where", "x", {}, ["where", "take", "where"]),
        ("take", "y", {}, ["x", "where"]),
        heads=["y"],
    )
    assert "(where_2, take_2, where_2)" in compared(graph, {}, np.ones(4), np.arange(4.0))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_weight_without_inputs_is_refused(shape: tuple[int, ...]) -> None:
    net = Network()
    net.conv("conv0", "data", 3, 3)
    with pytest.raises(MappingError, match="conv0_weight has the shape"):
        codegen.generate(net.build("conv0"), {"conv0_weight": shape}, "net")


def test_variables_of_the_same_name_are_refused() -> None:
    """A file has one array for both; MXNet refuses them too."""
    document = Document()
    x = document.add("null", "data", [])
    for name in ("conv0", "conv1"):
        weight = document.add("null", "weight", [])
        x = document.add("Convolution", name, [x, weight], kernel="(1, 1)", num_filter="3", no_bias="True")
    document.heads = [x]
    with pytest.raises(SymbolError, match=r"several variables have the same name\n  weight \(2\)"):
        codegen.generate(read(document), {"weight": (3, 3, 1, 1)}, "net")
