"""A few mutations of each kind on a whole network, detected against GluonCV itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import reading
from mutations import Original, controls, find, mutations, one_thread

from converter.networks import catalog
from converter.parity import runner
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mutations import Mutation

MODEL = catalog.find("gluon_resnext50_32x4d")
PROBE = Probe("float64", (65, 95))
SAMPLE = [
    "configuration: bn1 bn_eps 0.001",
    "configuration: fc num_classes 1001",
    "exchanged layers: layer3.5.bn1 and layer3.5.bn2",
    "exchanged layers: layer2.0.bn3 and layer2.0.downsample.1",
    "exchanged fields: layer4.2.bn3 beta and running_mean",
    "exchanged fields: layer1.0.downsample.1 gamma and running_var",
    "dropped tensor: layer3.2.bn2 running_mean of the file",
    "added tensor: fc bias in the checkpoint",
    "doubled tensor: layer2.1.bn1 weight from layer2.1.bn1.bias",
    "reordered weight: layer2.3.conv2 groups backwards",
    "reordered weight: layer4.0.conv2 height and width exchanged",
    "one ulp: conv1 weight, element 0 by size",
    "one ulp: layer4.2.bn3 running_var, element 0 by size",
    "one ulp: fc weight, element 0 by size",
    "layer setting: layer4.1.bn2 eps 1.1e-5",
    "layer setting: maxpool rounding otherwise",
    "layer setting: layer3.0.downsample.1 missing",
    "joined otherwise: layer2.0 the stride in conv1",
    "joined otherwise: layer3.3 a ReLU before the sum",
]
MUTATIONS = {str(mutation): mutation for mutation in mutations(MODEL)}


@pytest.fixture(scope="module")
def original(gluon_files: Path) -> Iterator[Original]:
    """Yield the unchanged network and GluonCV's outputs for it, computed once."""
    prepared = reading.in_memory(reading.prepare(MODEL, gluon_files / f"{MODEL.name}.params"))
    plan = runner.ReferencePlan(probes=(PROBE,), python=Path(sys.executable))
    with one_thread(), runner.start_references(plan, prepared) as (gluon,):
        yield Original(prepared, gluon)


@pytest.mark.parametrize("name", SAMPLE)
def test_mutation_is_detected_against_gluoncv(
    original: Original, name: str, record_property: Callable[[str, object], None]
) -> None:
    mutation = MUTATIONS[name]
    caught, suspicions = find(mutation, original)
    record_property("mutation", (mutation.kind, tuple(caught)))
    assert caught == mutation.caught
    assert mutation.suspect in suspicions


@pytest.mark.parametrize("change", controls(MODEL), ids=str)
def test_unchanged_network_and_no_op_changes_agree_with_gluoncv(original: Original, change: Mutation) -> None:
    assert find(change, original) == ({}, "")
