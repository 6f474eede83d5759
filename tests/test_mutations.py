"""Every mutation of a small network is detected, by the expected checks and at the mutated layer."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import reading
from mutations import Original, controls, find, mutations, one_thread, summary

from converter.networks import catalog, synthetic
from converter.networks.loading import LoadedModel
from converter.references import numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mutations import Mutation

    from converter.networks.catalog import Model

# 17×24 after the stem, odd and even, so that rounding in a pool shows; still 2×2 in the last stage.
PROBE = Probe("float64", (33, 47))
RESNEXT50 = catalog.find("gluon_resnext50_32x4d")
TINY = replace(
    RESNEXT50,
    name="tiny",
    config=replace(RESNEXT50.config, depths=(1, 2, 1, 1), cardinality=2, num_classes=10),
)
# As in a ResNeXt (64×4d), more layers of a block share a shape: all BatchNorms, and convolutions.
# Its first two stages have every kind of block.
WIDE = replace(TINY, name="wide", config=replace(TINY.config, cardinality=64))

EVERYTHING = mutations(TINY)
NAMES = {str(mutation) for mutation in EVERYTHING}
CAUGHT_BY_OUTPUTS = {str(mutation) for mutation in EVERYTHING if "outputs" in mutation.caught}
SHAPE_COMPATIBLE = [
    mutation
    for mutation in mutations(WIDE)
    if mutation.kind in {"exchanged layers", "reordered weight"}
    and mutation.layer.part in {"layer1", "layer2"}
    and "outputs" in mutation.caught
    and str(mutation) not in CAUGHT_BY_OUTPUTS
]


def small_variant(name: str) -> Model:
    """Return a small network with another stem, block, shortcut or pool."""
    model = catalog.find(name)
    depths = (1, 2, 1, 1)[: len(model.config.depths)]
    cardinality = min(2, model.config.cardinality)
    return replace(
        model, config=replace(model.config, depths=depths, cardinality=cardinality, num_classes=10)
    )


VARIANTS = [
    small_variant(name)
    for name in (
        "gluon_seresnext50_32x4d",
        "gluon_seresnext101e_64x4d",
        "gluon_senet154",
        "gluon_resnet18_v1b",
        "gluon_resnet50_v1b",
        "gluon_resnet50_v1c",
        "gluon_resnet50_v1d",
        "gluon_cifar_resnext29_32x4d",
    )
]
# The other kinds are equal for all of them and are tested on the tiny one, as are exchanges in its layers.
VARIANT_KINDS = ("exchanged fields", "layer setting", "joined otherwise")
VARIANT_LAYERS = ("conv1", "bn1", "maxpool", "layer2.0", "avgpool", "fc")
CASES = [
    *(pytest.param("tiny", mutation, id=str(mutation)) for mutation in EVERYTHING),
    *(pytest.param("wide", mutation, id=f"wide, {mutation}") for mutation in SHAPE_COMPATIBLE),
    *(
        pytest.param(model.name, mutation, id=f"{model.name}, {mutation}")
        for model in VARIANTS
        for mutation in mutations(model, VARIANT_KINDS)
        if mutation.layer.target.startswith(VARIANT_LAYERS)
        if mutation.kind != "exchanged fields" or str(mutation) not in NAMES
    ),
]


@pytest.fixture(scope="module")
def original() -> Iterator[Callable[[str], Original]]:
    """Yield a function that returns an unchanged network by its name."""
    models = {model.name: model for model in (TINY, WIDE, *VARIANTS)}

    @functools.cache
    def run(name: str) -> Original:
        model = models[name]
        params = synthetic.random_params(model.mapping, model.shapes, seed=0)
        loaded = LoadedModel(model, model.mapping, params, {}, reading.without_file())
        return Original(loaded, numpy.NumpyRun(params, (PROBE,)))

    with one_thread():
        yield run


@pytest.mark.parametrize(("network", "mutation"), CASES)
def test_every_mutation_is_detected_at_its_layer(
    original: Callable[[str], Original],
    network: str,
    mutation: Mutation,
    record_property: Callable[[str, object], None],
) -> None:
    caught, suspicions = find(mutation, original(network))
    record_property("mutation", (mutation.kind, tuple(caught)))
    assert caught == mutation.caught
    assert mutation.suspect in suspicions


@pytest.mark.parametrize("change", controls(TINY), ids=str)
def test_no_op_change_is_not_detected(original: Callable[[str], Original], change: Mutation) -> None:
    outcome = find(change, original("tiny"))
    assert outcome == ({}, "")
    assert summary([(change.kind, outcome[0])])[-1] == "1 mutations, 0 caught"


def test_summary_counts_by_kind_and_check() -> None:
    lines = summary([("swap", ("outputs",)), ("ulp", ("tensors", "outputs")), ("ulp", ())])
    assert [line.split() for line in lines] == [
        ["mutations", "caught", "names", "shapes", "tensors", "outputs"],
        ["swap", "1", "1", "0", "0", "0", "1"],
        ["ulp", "2", "1", "0", "0", "1", "1"],
        ["together", "3", "2", "0", "0", "1", "2"],
        ["3", "mutations,", "2", "caught"],
    ]


def test_every_layer_is_mutated_and_no_mutation_repeats() -> None:
    assert {mutation.layer for mutation in EVERYTHING} == set(TINY.mapping.layers)
    assert len({str(mutation) for mutation in EVERYTHING}) == len(EVERYTHING)


def test_every_tensor_has_an_ulp_that_changes_the_outputs() -> None:
    ulps = [mutation for mutation in EVERYTHING if mutation.kind == "one ulp"]
    shown = {mutation.caught["tensors"] for mutation in ulps if "outputs" in mutation.caught}
    assert shown == set(TINY.mapping.to_source())


def test_network_equals_the_tiny_fixture(tiny: Model) -> None:
    assert tiny == TINY
