"""Graphs are aligned with other networks by their structure: kinds, shapes and connections of layers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from graph_building import Network

from converter.errors import MappingError
from converter.graphs.alignment import alignment, reduction, refinement, rules, settings

if TYPE_CHECKING:
    from converter.graphs.alignment.structure import Structure


def structure(network: Network, *heads: str, title: str = "graph") -> Structure:
    return reduction.reduce(network.build(*heads), network.shapes, title)


def renamed(side: Structure, order: list[int]) -> Structure:
    """Return the same structure with its layers in another order and under other names, as a module's."""
    place = {old: new for new, old in enumerate(order)}

    def moved(sources: tuple[frozenset[int], ...]) -> tuple[frozenset[int], ...]:
        return tuple(frozenset(place.get(each, each) for each in part) for part in sources)

    layers = [
        replace(
            side.layers[old],
            name=f"module.{side.layers[old].name}",
            tensors={role: f"{side.layers[old].name}.{role}" for role in side.layers[old].tensors},
            sources=moved(side.layers[old].sources),
            place=new,
        )
        for new, old in enumerate(order)
    ]
    return replace(
        side, title="module", layers=tuple(layers), outputs=tuple(moved(each) for each in side.outputs)
    )


def residual() -> Network:
    network = Network()
    x = network.residual("unit1", "data", 1, 4)
    network.residual("unit2", x, 4, 8, stride=2)
    return network


def fused() -> Network:
    """Two resolutions that exchange their results, as in HRNet: equal layers, told apart by connections."""
    network = Network()
    high, low = network.conv("high", "data", 3, 4), network.conv("low", "data", 3, 4, stride=2)
    for stage in ("a", "b"):
        high = network.conv(f"{stage}_high", high, 4, 4)
        low = network.conv(f"{stage}_low", low, 4, 4)
        down = network.conv(f"{stage}_down", high, 4, 4, stride=2)
        low = network.apply("elemwise_add", f"{stage}_sum", low, down)
    network.apply("Flatten", "end", low)
    return network


@pytest.mark.parametrize("backwards", [False, True])
def test_layers_are_paired_whatever_their_names_and_order(backwards: bool) -> None:
    side = structure(residual(), "unit2_relu2")
    order = list(range(len(side.layers)))[:: -1 if backwards else 1]
    found = alignment.align(side, renamed(side, order))
    assert found.pairs == {old: new for new, old in enumerate(order)}
    assert found.symmetric == 0
    assert not found.differences


def test_connections_tell_equal_layers_apart() -> None:
    """Negative control: the order of computation alone pairs them wrongly."""
    side = structure(fused(), "end")
    order = [1, 0, 3, 2, 4, 5, 7, 6][: len(side.layers)]
    order += list(range(len(order), len(side.layers)))
    other = renamed(side, order)
    found = alignment.align(side, other)
    by_name = {layer.name: layer.name for layer in side.layers}
    assert {
        side.layers[one].name: other.layers[two].name.removeprefix("module.")
        for one, two in found.pairs.items()
    } == by_name
    assert any(one != two for one, two in found.pairs.items())


def test_symmetric_layers_are_paired_by_their_order_and_their_successors_follow() -> None:
    network = Network()
    ends = []
    for branch in ("left", "right"):
        x = network.conv(f"{branch}_1", "data", 1, 4)
        ends.append(network.norm(f"{branch}_2", x, 4))
    network.apply("elemwise_add", "sum", *ends)
    side = structure(network, "sum")
    found = alignment.align(side, renamed(side, [0, 2, 3, 1]))  # left_1, right_1, right_2, left_2
    assert found.symmetric == 4
    assert found.pairs == {0: 0, 1: 3, 2: 1, 3: 2}


def test_order_of_a_concatenation_tells_branches_apart() -> None:
    network = Network()
    parts = [network.conv(name, "data", 1, 4) for name in ("a", "b")]
    network.apply("Concat", "join", *parts, num_args="2")
    side = structure(network, "join")
    found = alignment.align(side, renamed(side, [1, 0]))
    assert (found.symmetric, found.pairs) == (0, {0: 1, 1: 0})


def test_refinement_is_the_same_in_every_process() -> None:
    colours = refinement.ancestry(structure(residual(), "unit2_relu2"))
    assert colours[0].hex() == "bb70d362a0bbf6500a40bd5566903d05"


def test_first_place_where_networks_part_is_shown_side_by_side() -> None:
    network = residual()
    deeper = residual()
    deeper.residual("unit3", "unit2_relu2", 8, 8)
    ours = structure(deeper, "unit3_relu2", title="net-symbol.json")
    theirs = renamed(structure(network, "unit2_relu2"), list(range(10)))
    with pytest.raises(MappingError) as caught:
        alignment.align(ours, theirs)
    text = str(caught.value)
    assert "net-symbol.json and module have different layers" in text
    assert "matched         10 of 14 layers in the graph, 10 in the module" in text
    assert re.search(
        r"first mismatch +in the graph +in the module\n +unit3_conv1  convolution 8×8×3×3 +\(nothing\)", text
    )
    assert "only            in the graph: 2 BatchNorm 8, 2 convolution 8×8×3×3" in text


def test_bias_before_a_batch_norm_is_folded_and_elsewhere_refused() -> None:
    ours, theirs = Network(), Network()
    for network, bias in ((ours, True), (theirs, False)):
        shapes = {"weight": (4, 1, 3, 3), **({"bias": (4,)} if bias else {})}
        attributes = {"kernel": "(3, 3)", "num_filter": "4", "no_bias": str(not bias)}
        network._layer("Convolution", "conv", attributes, "data", shapes)
        network.norm("bn", "conv", 4)
    module = renamed(structure(theirs, "bn"), [0, 1])
    found = alignment.align(structure(ours, "bn"), module)
    assert found.plan.rules == {rules.FOLDED: ("conv",)}
    assert found.plan.assignments["bn.running_mean"].minus == "conv_bias"
    assert found.plan.folded == {0}
    ours.apply("Activation", "relu", "conv", act_type="relu")
    ours.norm("late", "relu", 4)
    theirs.norm("late", "conv", 4)
    with pytest.raises(MappingError, match=r"conv has a bias, and the module's module\.conv has none"):
        alignment.align(structure(ours, "late"), renamed(structure(theirs, "late"), [0, 1]))


def test_missing_bias_is_zero_and_dense_layer_is_a_convolution() -> None:
    ours, theirs = Network(), Network()
    attributes = {"kernel": "(1, 1)", "num_filter": "4", "no_bias": "True"}
    ours._layer("Convolution", "conv", attributes, "data", {"weight": (4, 2, 1, 1)})
    theirs.dense("fc", "data", 2, 4)
    found = alignment.align(structure(ours, "conv"), renamed(structure(theirs, "fc"), [0]))
    assert found.plan.rules == {rules.ZERO: ("conv",), rules.RESHAPED: ("conv",)}
    assert found.plan.assignments["fc.bias"].source is None
    assert found.plan.assignments["fc.weight"].shape == (4, 2)


def test_other_numbers_of_outputs_are_refused() -> None:
    network = residual()
    module = renamed(structure(network, "unit2_relu2"), list(range(10)))
    with pytest.raises(MappingError, match="has 2 outputs, and module 1\n  try  --output NODE"):
        alignment.align(structure(network, "unit2_relu2", "unit2_relu2"), module)


def test_settings_are_compared_layer_by_layer_and_between_layers() -> None:
    def network(eps: str, stride: int, kernel: str, slope: str) -> Network:
        built = Network()
        x = built.norm("bn", built.conv("conv", "data", 1, 4, stride), 4, eps=eps)
        x = built.apply("LeakyReLU", "leaky", x, act_type="leaky", slope=slope)
        x = built.apply("Pooling", "pool", x, kernel=kernel, stride="(2, 2)", pool_type="max")
        built.conv("last", x, 4, 4)
        return built

    ours = structure(network("0.001", 2, "(3, 3)", "0.1"), "last")
    theirs = structure(network("1e-05", 1, "(2, 2)", "0.2"), "last")
    found = settings.compare(ours, theirs, {0: 0, 1: 1, 2: 2})
    assert [(each.setting, each.expected, each.found) for each in found] == [
        ("stride", (2, 2), (1, 1)),
        ("eps", 0.001, 1e-05),
        ("negative_slope", pytest.approx(0.1), pytest.approx(0.2)),
        ("kernel_size", (3, 3), (2, 2)),
    ]
    assert str(found[0]) == "conv → conv: stride (2, 2) in the graph, (1, 1) in the module"
    assert not settings.compare(ours, ours, {0: 0, 1: 1, 2: 2})


def test_pool_that_only_one_side_has_is_a_difference() -> None:
    def network(*, pools: bool) -> Network:
        built = Network()
        x = built.conv("conv", "data", 1, 4)
        if pools:
            x = built.apply("Pooling", "pool", x, kernel="(2, 2)", stride="(2, 2)", pool_type="max")
        built.conv("last", x, 4, 4)
        return built

    found = settings.compare(
        structure(network(pools=True), "last"), structure(network(pools=False), "last"), {0: 0, 1: 1}
    )
    assert [str(each) for each in found] == ["pool: the graph has this max pool, the module does not"]
