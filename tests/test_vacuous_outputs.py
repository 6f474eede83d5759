"""Layers over the last axis, labels that are inputs, and variables as outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import generated_modules
import graph_files
import numpy as np
import pytest
from graph_building import Network, variable

from converter.commands.graph_conversion import convert_graph
from converter.errors import ParityError, SymbolError
from converter.formats.params import write_params
from converter.graphs import codegen, pruning
from converter.parity import graph_proof
from converter.parity.graph_proof import ConvertedGraph
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Graph
    from converter.graphs.operators.code import Shape
    from converter.parity.graph_rows import GraphProof

NUMPY = ParityOptions("numpy", dtypes=["float64"])


def convert(net: Network, *heads: str, **parameters: Array) -> ConvertedGraph:
    graph = net.build(*heads)
    pruned = pruning.prune(graph)
    values = generated_modules.random_parameters(net.shapes) | parameters
    return ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=codegen.generate(pruned.graph, net.shapes, "net"),
        parameters=values,
    )


def prove(converted: ConvertedGraph, *shape: int) -> GraphProof:
    image = np.random.Generator(np.random.PCG64(1)).normal(0, 1, shape)
    return graph_proof.prove_on_arrays(converted, [("float64", {"data": image})])


def over_the_last_axis(kind: str, size: int = 6) -> Network:
    net = Network()
    roles = {"LayerNorm": ("gamma", "beta"), "FullyConnected": ("weight", "bias")}[kind]
    net.nodes += [variable(f"out_{role}") for role in roles]
    shapes = {"weight": (4, size), "bias": (4,), "gamma": (size,), "beta": (size,)}
    net.shapes |= {f"out_{role}": shapes[role] for role in roles}
    attributes = {} if kind == "LayerNorm" else {"num_hidden": "4", "flatten": "False"}
    net.apply(kind, "out", "data", *(f"out_{role}" for role in roles), **attributes)
    return net


@pytest.mark.parametrize("kind", ["LayerNorm", "FullyConnected"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 3, 5, 6), (6, 6, 6), (2, 6)])
def test_layer_over_the_last_axis_is_proven(kind: str, shape: tuple[int, ...]) -> None:
    prove(convert(over_the_last_axis(kind), "out"), *shape).require()


@pytest.mark.parametrize(("kind", "weight"), [("LayerNorm", "out_gamma"), ("FullyConnected", "out_weight")])
@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 6, 6), (2, 4, 6)])
def test_bias_alone_over_the_last_axis_proves_nothing(kind: str, weight: str, shape: tuple[int, ...]) -> None:
    net = over_the_last_axis(kind)
    converted = convert(net, "out", **{weight: np.zeros(net.shapes[weight])})
    with pytest.raises(ParityError, match="these layers prove nothing"):
        prove(converted, *shape).require()


def test_input_that_is_also_the_label_is_kept() -> None:
    net = Network()
    net.apply("LinearRegressionOutput", "loss", net.dense("fc1", "data", 6, 6), "data")
    converted = convert(net, "loss")
    assert (converted.module.inputs, converted.pruned.labels) == (("data",), ())
    prove(converted, 2, 6).require()


def test_variables_as_outputs_are_compared() -> None:
    net = Network()
    net.nodes.append(variable("anchors"))
    net.shapes["anchors"] = (2, 3)
    net.apply("relu", "relu0", "data")
    converted = convert(net, "relu0", "data", "anchors")
    proof = prove(converted, 4, 5)
    proof.require()
    assert [row.node for row in proof.rows] == ["relu0", "data", "anchors"]
    assert [head.shape for head in proof.heads[0]] == [(4, 5), (4, 5), (2, 3)]
    source = converted.module.source.replace("return x, data, y", "return x, data + 1, y")
    assert source != converted.module.source
    wrong = replace(converted, module=replace(converted.module, source=source))
    with pytest.raises(ParityError, match="first at  data"):
        prove(wrong, 4, 5).require()


def test_graph_that_computes_nothing_is_refused() -> None:
    with pytest.raises(SymbolError, match="computes nothing: its outputs are inputs or parameters"):
        pruning.prune(Network().build("data"))


def test_load_of_the_module_is_what_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that loses a tensor's values is caught, although the arrays of the source are right."""
    net = Network()
    net.dense("fc1", "data", 6, 4)
    graph, params = tmp_path / "net-symbol.json", tmp_path / "net-0000.params"
    graph.write_bytes(net.build("fc1").content)
    with params.open("wb") as stream:
        write_params(stream, graph_files.parameters(net))
    convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    right = codegen.generate

    def generate(graph: Graph, shapes: Mapping[str, Shape], name: str) -> GeneratedModule:
        module = right(graph, shapes, name)
        source = module.source.replace("state[name] = flat", "state[name] = 0 * flat")
        assert source != module.source
        return replace(module, source=source)

    monkeypatch.setattr(codegen, "generate", generate)
    with pytest.raises(ParityError, match="differs from the graph"):
        convert_graph(graph, tmp_path / "other", params=params, options=NUMPY)
    assert not list((tmp_path / "other").glob("*"))
