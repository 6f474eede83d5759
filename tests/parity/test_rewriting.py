"""Operators that are replaced in float64 are held to MXNet's originals in float32."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import generated_modules
import numpy as np
import pytest
from graph_building import Network

from converter.errors import ParityError
from converter.graphs import codegen, pruning
from converter.parity import graph_proof
from converter.parity.graph_proof import ConvertedGraph
from converter.parity.graph_rows import REWRITING_LIMIT, GraphProof
from converter.references import symbol

FILES = ("symbol_child.py", "gluon_child.py", "float64_graph.py")


def convert(net: Network, head: str) -> ConvertedGraph:
    graph = net.build(head)
    parameters = generated_modules.random_parameters(net.shapes)
    pruned = pruning.prune(graph)
    module = codegen.generate(pruned.graph, net.shapes, "net")
    return ConvertedGraph(whole=graph, pruned=pruned, module=module, parameters=parameters)


def prove(converted: ConvertedGraph, *dtypes: str) -> GraphProof:
    image = np.random.Generator(np.random.PCG64(2)).normal(0, 1, (2, 3, 6, 6))
    runs = [(dtype, {"data": image.astype(dtype)}) for dtype in dtypes]
    return graph_proof.prove(converted, runs, Path(sys.executable))


def normalized() -> ConvertedGraph:
    net = Network()
    x = net.apply("LRN", "lrn", net.conv("conv0", "data", 3, 8), nsize="3", alpha="0.1")
    net.conv("conv1", x, 8, 4)
    return convert(net, "conv1")


@pytest.mark.parametrize("dtypes", [("float64",), ("float64", "float32")], ids=len)
@pytest.mark.parametrize("wrong", ["alpha / size", "nsize"])
def test_wrong_replacement_is_caught(
    wrong: str, dtypes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        shutil.copy(symbol.CHILD.with_name(name), tmp_path)
    monkeypatch.setattr(symbol, "CHILD", tmp_path / FILES[0])
    converted = normalized()
    assert prove(converted, *dtypes).rewriting < 1e-6
    rules = tmp_path / "float64_graph.py"
    right = {"alpha / size": "repr(alpha / size)", "nsize": 'int(attributes["nsize"])'}[wrong]
    changed = {"alpha / size": "repr(alpha)", "nsize": 'int(attributes["nsize"]) + 2'}[wrong]
    assert rules.read_text().count(right) == 1
    rules.write_text(rules.read_text().replace(right, changed))
    proof = prove(converted, *dtypes)
    assert proof.rewriting > 10 * REWRITING_LIMIT
    assert not proof.passed
    with pytest.raises(ParityError, match=r"MXNet's outputs differ by .* once LRN are replaced"):
        proof.require()


def after_topk(branch: str) -> ConvertedGraph:
    """Return a graph with a LeakyReLU after a topk, or next to it."""
    net = Network()
    x = net.apply("Flatten", "flat", net.conv("conv0", "data", 3, 8))
    top = net.apply("topk", "top", x, k="5", ret_typ="value")
    start = {"after": top, "next to": net.apply("slice_axis", "first", x, axis="1", begin="0", end="5")}
    leaky = net.apply("LeakyReLU", "leaky", start[branch], slope="0.3")
    return convert(net, net.apply("elemwise_add", "sum", leaky, top))


def test_replaced_operator_after_a_sort_needs_float32() -> None:
    converted = after_topk("after")
    with pytest.raises(ParityError, match=r"float64 alone does not cover LeakyReLU\n(.*\n)*.*float32$"):
        prove(converted, "float64")
    proof = prove(converted, "float64", "float32")
    proof.require()
    assert proof.replaced == ("LeakyReLU",)


def test_replaced_operator_next_to_a_sort_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = after_topk("next to")
    prove(converted, "float64").require()
    for name in FILES:
        shutil.copy(symbol.CHILD.with_name(name), tmp_path)
    rules = tmp_path / "float64_graph.py"
    rules.write_text(rules.read_text().replace('to.add("_mul_scalar", below, ', 'to.add("_copy", below, '))
    monkeypatch.setattr(symbol, "CHILD", tmp_path / FILES[0])
    assert prove(converted, "float64").rewriting > 10 * REWRITING_LIMIT
