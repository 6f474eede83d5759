"""Every mutation of a small network is caught, by the checks and at the layer that it names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import reading
from mutations import controls, find, mutations, one_thread, record, summary

from converter.networks import catalog, synthetic
from converter.networks.loading import LoadedModel
from converter.references import numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mutations import Mutation, Recorded

    from converter.networks.catalog import Model

    Runs = dict[str, tuple[LoadedModel, Recorded]]

# After the stem 17×24, odd and even, so that a pool that rounds up shows; in the last stage still 2×2.
PROBE = Probe("float64", (33, 47))
RESNEXT50 = catalog.find("gluon_resnext50_32x4d")
TINY = replace(
    RESNEXT50,
    name="tiny",
    config=replace(RESNEXT50.config, depths=(1, 2, 1, 1), cardinality=2, num_classes=10),
)
# As in a ResNeXt (64×4d), more layers of a block have the same shape: all BatchNorms, and convolutions. Its
# first two stages have every kind of block.
WIDE = replace(TINY, name="wide", config=replace(TINY.config, cardinality=64))

EVERYTHING = mutations(TINY)
CAUGHT_BY_OUTPUTS = {str(mutation) for mutation in EVERYTHING if "outputs" in mutation.caught}
WHERE_SHAPES_ALLOW = [
    mutation
    for mutation in mutations(WIDE)
    if mutation.kind in {"exchanged layers", "reordered weight"}
    and mutation.layer.part in {"layer1", "layer2"}
    and "outputs" in mutation.caught
    and str(mutation) not in CAUGHT_BY_OUTPUTS
]


def relative(name: str) -> Model:
    """Return a small network of another kind: another stem, block, shortcut or pool."""
    model = catalog.find(name)
    depths = (1, 2, 1, 1)[: len(model.config.depths)]
    cardinality = min(2, model.config.cardinality)
    return replace(
        model, config=replace(model.config, depths=depths, cardinality=cardinality, num_classes=10)
    )


RELATIVES = [
    relative(name)
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
# The rest is the same for all of them, and tried on the tiny one.
RELATIVE_KINDS = ("exchanged fields", "layer setting", "joined otherwise")
RELATIVE_PLACES = ("conv1", "bn1", "maxpool", "layer2.0", "avgpool", "fc")
CASES = [
    *(pytest.param("tiny", mutation, id=str(mutation)) for mutation in EVERYTHING),
    *(pytest.param("wide", mutation, id=f"wide, {mutation}") for mutation in WHERE_SHAPES_ALLOW),
    *(
        pytest.param(model.name, mutation, id=f"{model.name}, {mutation}")
        for model in RELATIVES
        for mutation in mutations(model, RELATIVE_KINDS)
        if mutation.layer.target.startswith(RELATIVE_PLACES)
    ),
]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """The sound networks by name, and what the reference gave for them."""

    def run(model: Model) -> tuple[LoadedModel, Recorded]:
        params = synthetic.random_params(model.mapping, model.shapes, seed=0)
        prepared = LoadedModel(model, model.mapping, params, {}, reading.nowhere())
        return prepared, record(numpy.NumpyRun(params, (PROBE,)))

    with one_thread():
        yield {model.name: run(model) for model in (TINY, WIDE, *RELATIVES)}


@pytest.mark.parametrize(("network", "mutation"), CASES)
def test_every_mutation_is_caught_where_it_is(
    runs: Runs, network: str, mutation: Mutation, record_property: Callable[[str, object], None]
) -> None:
    caught, suspicions = find(mutation, *runs[network])
    record_property("mutation", (mutation.kind, tuple(caught)))
    assert caught == mutation.caught
    assert mutation.suspect in suspicions


@pytest.mark.parametrize("change", controls(TINY), ids=str)
def test_a_mutation_without_effect_is_reported_as_not_caught(runs: Runs, change: Mutation) -> None:
    found = find(change, *runs["tiny"])
    assert found == ({}, "")
    assert summary([(change.kind, found[0])])[-1] == "1 mutations, 0 caught"


def test_the_summary_counts_by_kind_and_by_check() -> None:
    lines = summary([("swap", ("outputs",)), ("ulp", ("tensors", "outputs")), ("ulp", ())])
    assert [line.split() for line in lines] == [
        ["mutations", "caught", "names", "shapes", "tensors", "outputs"],
        ["swap", "1", "1", "0", "0", "0", "1"],
        ["ulp", "2", "1", "0", "0", "1", "1"],
        ["together", "3", "2", "0", "0", "1", "2"],
        ["3", "mutations,", "2", "caught"],
    ]


def test_every_layer_is_broken_and_no_mutation_twice() -> None:
    assert {mutation.layer for mutation in EVERYTHING} == set(TINY.mapping.layers)
    assert len({str(mutation) for mutation in EVERYTHING}) == len(EVERYTHING)


def test_every_tensor_has_an_ulp_that_the_outputs_show() -> None:
    ulps = [mutation for mutation in EVERYTHING if mutation.kind == "one ulp"]
    shown = {mutation.caught["tensors"] for mutation in ulps if "outputs" in mutation.caught}
    assert shown == set(TINY.mapping.to_source())


def test_it_is_the_tiny_network_of_the_other_tests(tiny: Model) -> None:
    assert tiny == TINY
