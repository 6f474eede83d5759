"""Integers in a graph stay integers, and constants are buffers that are not saved."""

from __future__ import annotations

import json

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import build, variable

from converter.errors import SymbolError
from converter.graphs import codegen, dtypes, execute, pruning, reader, rewriting, support

PLACES = [
    variable("data"),
    ("topk", "top", {"k": "4", "ret_typ": "both"}, ["data"]),
    ("Cast", "index", {"dtype": "int64"}, ["top:1"]),
    ("_div_scalar", "row", {"scalar": "3"}, ["index"]),
    ("Cast", "y", {"dtype": "float32"}, ["row"]),
    ("_mul_scalar", "half", {"scalar": "0.5"}, ["y"]),
    ("Cast", "score", {"dtype": "float32"}, ["top:0"]),
]


def data() -> np.ndarray:
    array: np.ndarray = np.random.Generator(np.random.PCG64(2)).permuted(
        np.arange(20.0).reshape(2, 10), axis=1
    )
    return array


def test_integers_are_found() -> None:
    graph = build(*PLACES, heads=["half", "score"])
    names = {graph.nodes[index].name for index, _ in dtypes.integers(graph)}
    assert names == {"index", "row"}


def test_only_casts_between_floating_types_are_bypassed() -> None:
    graph = build(*PLACES, heads=["half", "score"])
    assert [graph.nodes[index].name for index, _ in rewriting.casts(graph)] == ["score"]


def test_quotient_of_integers_is_truncated() -> None:
    graph = build(*PLACES, heads=["half", "score"])
    module = codegen.generate(graph, {}, "net")
    assert 'rounding_mode="trunc"' in module.source
    half, score = generated_modules.outputs(generated_modules.network(module, {}), data())
    order = np.argsort(-data(), 1)[:, :4]
    np.testing.assert_array_equal(half, order // 3 / 2)
    np.testing.assert_array_equal(score, np.take_along_axis(data(), order, 1))
    for ours, theirs in zip([half, score], execute.outputs(graph, {"data": data()}, {}), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_true_quotient_of_integers_is_floating() -> None:
    """As measured with MXNet 1.9.1."""
    graph = build(*PLACES, ("_npi_true_divide", "quotient", {}, ["row", "index"]), heads=["quotient"])
    operation = graph.nodes[-1].operation
    assert operation.compute
    quotient = operation.compute(np.array([5, 7], np.int32), np.array([2, 0], np.int32))
    assert (quotient.tolist(), quotient.dtype) == ([2.5, np.inf], np.float32)
    assert (len(graph.nodes) - 1, 0) not in dtypes.integers(graph)
    module = codegen.generate(graph, {}, "net")
    (output,) = generated_modules.outputs(generated_modules.network(module, {}), data())
    assert output.dtype == np.float32


def test_constant_is_a_buffer_that_is_not_saved() -> None:
    nodes = [
        variable("data"),
        ("_arange", "steps", {"start": "0.1", "stop": "3", "step": "0.3"}, []),
        ("broadcast_mul", "out", {}, ["data", "steps"]),
    ]
    module = codegen.generate(build(*nodes, heads=["out"]), {}, "net")
    net = generated_modules.network(module, {})
    assert module.constants == {1: "steps"}
    assert dict(net.state_dict()) == {}
    assert net.get_buffer("steps").dtype == torch.float64
    (output,) = generated_modules.outputs(net, data())
    np.testing.assert_allclose(output, data() * (0.1 + 0.3 * np.arange(10)), rtol=1e-15)


def test_constants_of_repeated_blocks_differ() -> None:
    """Blocks with different constants are not instances of one class."""
    nodes = [variable("data")]
    for number in (1, 2):
        before = "data" if number == 1 else "block1_sum"
        nodes += [
            ("_full", f"block{number}_full", {"shape": "(2, 10)", "value": str(number)}, []),
            ("elemwise_add", f"block{number}_sum", {}, [before, f"block{number}_full"]),
        ]
    module = codegen.generate(build(*nodes, heads=["block2_sum"]), {}, "net")
    (output,) = generated_modules.outputs(generated_modules.network(module, {}), data())
    np.testing.assert_array_equal(output, data() + 3)


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("_contrib_quantize_v2", "computes in int8"),
        ("_sg_mkldnn_conv", "int8"),
        ("_foreach", "another graph"),
    ],
)
def test_operator_with_a_subgraph_is_refused_by_name(operator: str, reason: str) -> None:
    content = json.loads(build(variable("data"), ("relu", "out", {}, ["data"]), heads=["out"]).content)
    content["nodes"][1] |= {"op": operator, "subgraphs": [{"nodes": []}]}
    graph = pruning.prune(reader.parse(json.dumps(content).encode(), file="net", name="net")).graph
    with pytest.raises(SymbolError, match=f"{operator}  .*{reason}"):
        support.require(graph)


def test_unknown_operator_with_a_subgraph_is_refused() -> None:
    content = json.loads(build(variable("data"), ("relu", "out", {}, ["data"]), heads=["out"]).content)
    content["nodes"][1]["subgraphs"] = [{"nodes": []}]
    with pytest.raises(SymbolError, match="subgraphs are not supported"):
        reader.parse(json.dumps(content).encode(), file="net", name="net")


@pytest.mark.parametrize(
    ("a_min", "a_max", "expected"),
    [("-100", "20.5", [-100, -37, 20]), ("-36.9", "1e3", [-36, -36, 21]), ("-40.5", "-0.5", [-40, -37, 0])],
)
def test_bounds_of_integers_are_truncated(a_min: str, a_max: str, expected: list[int]) -> None:
    """As measured with MXNet 1.9.1."""
    limits = {"a_min": a_min, "a_max": a_max}
    nodes = [variable("data"), ("Cast", "whole", {"dtype": "int32"}, ["data"])]
    graph = build(*nodes, ("clip", "clip0", limits, ["whole"]), heads=["clip0"])
    module = codegen.generate(graph, {}, "net")
    given = np.array([-123.4, -37, 21])
    (output,) = generated_modules.outputs(generated_modules.network(module, {}), given)
    assert output.tolist() == expected
    assert output.dtype == np.int32
    assert execute.outputs(graph, {"data": given}, {})[0].tolist() == expected


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        *((name, {}) for name in ("sqrt", "cbrt", "cosh", "erf", "round", "smooth_l1", "softmax", "sigmoid")),
        *(("mean", {"axis": axis}) for axis in ("1", "(0, 1)")),
        ("norm", {}),
        ("log_softmax", {}),
        ("Activation", {"act_type": "tanh"}),
        ("LeakyReLU", {"act_type": "leaky"}),
        ("hard_sigmoid", {}),
        ("clip", {"a_min": "0", "a_max": "1e10"}),
        *((name, {"scalar": "0.5"}) for name in ("_power_scalar", "_rpower_scalar", "_hypot_scalar")),
    ],
)
def test_functions_of_integers_are_refused(operator: str, attributes: dict[str, str]) -> None:
    """MXNet rounds their values to integers, PyTorch does not."""
    cast = ("Cast", "whole", {"dtype": "int32"}, ["data"])
    graph = build(variable("data"), cast, (operator, "out", attributes, ["whole"]), heads=["out"])
    with pytest.raises(SymbolError, match=f"{operator} +integers as inputs are not supported"):
        support.require(graph)
    support.require(build(variable("data"), (operator, "out", attributes, ["data"]), heads=["out"]))


@pytest.mark.parametrize("place", [0, 1])
def test_power_of_integers_is_refused(place: int) -> None:
    inputs = ["data", "data"]
    inputs[place] = "whole"
    cast = ("Cast", "whole", {"dtype": "int32"}, ["data"])
    graph = build(variable("data"), cast, ("broadcast_power", "out", {}, inputs), heads=["out"])
    with pytest.raises(SymbolError, match=r"broadcast_power +integers as inputs are not supported"):
        support.require(graph)
