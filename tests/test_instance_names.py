from __future__ import annotations

import random

import pytest

from converter.errors import MappingError
from converter.networks import instance_names

NAMES = [
    *("mobilenet0_conv0_weight", "mobilenet0_batchnorm0_gamma", "mobilenet0_conv1_weight"),
    *("mobilenet0_block0_conv0_weight", "mobilenet0_block1_conv0_weight"),
    *("mobilenet0_dense0_weight", "mobilenet0_dense0_bias"),
]


def renamed(old: str, new: str) -> list[str]:
    return [name.replace(old, new) for name in NAMES]


@pytest.mark.parametrize(
    "found",
    [
        NAMES,
        renamed("mobilenet0_", "mobilenet3_"),  # another instance
        renamed("mobilenet0_", "classifier_"),  # prefix='classifier_'
        renamed("mobilenet0_", "outer1_mobilenet0_"),  # inside another network
        renamed("mobilenet0_", ""),  # net.save_params
        renamed("dense0", "dense1"),  # replaced head
        renamed("mobilenet0_dense0", "dense7"),  # head made outside the network's name scope
    ],
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_instances_match(found: list[str], shuffled: bool) -> None:
    expected = dict(zip(found, NAMES, strict=True))
    if shuffled:
        random.Random(0).shuffle(found := [*found])  # noqa: S311 - not for secrets
    assert instance_names.match(NAMES, found, "a.params") == expected


def test_gaps_are_resolved_by_the_order_of_the_file() -> None:
    found = renamed("conv1_", "conv2_")
    assert instance_names.match(NAMES, found, "a.params") == dict(zip(found, NAMES, strict=True))


def test_gaps_in_another_order_are_refused() -> None:
    found = [*reversed(renamed("mobilenet0_conv1_", "mobilenet0_conv2_"))]
    with pytest.raises(MappingError, match=r"(?s)^a\.params: the numbers of layers differ.*_conv: \[0, 2\]"):
        instance_names.match(NAMES, found, "a.params")


@pytest.mark.parametrize(
    "found",
    [
        NAMES[:-1],
        [*NAMES, "mobilenet0_conv2_weight"],
        renamed("conv1", "deconv1"),
        renamed("bias", "beta"),
        renamed("mobilenet0_dense0_weight", "dense0_scale"),
        [],
    ],
)
def test_other_layers_are_refused(found: list[str]) -> None:
    with pytest.raises(MappingError, match=r"^a\.params: the names are not those of the network's layers"):
        instance_names.match(NAMES, found, "a.params")


def test_replaced_layer_of_two_in_a_scope_is_not_taken_for_the_other() -> None:
    expected = [
        *NAMES[:3],
        "mobilenet0_stage1_batchnorm0_gamma",
        "mobilenet0_stage1_batchnorm1_gamma",
        *NAMES[5:],
    ]
    found = [name.replace("mobilenet0_stage1_batchnorm0", "batchnorm9") for name in expected]
    with pytest.raises(MappingError, match=r"(?s)numbers of layers differ.*stage0_batchnorm: \[1\]"):
        instance_names.match(expected, found, "a.params")


def test_replaced_layer_within_the_network_needs_the_network_s_order() -> None:
    found = [name.replace("mobilenet0_block1_conv0", "conv9") for name in NAMES]
    assert instance_names.match(NAMES, found, "a.params") == dict(zip(found, NAMES, strict=True))
    with pytest.raises(MappingError, match=r"(?s)not in the network's order.*conv9_weight"):
        instance_names.match(NAMES, [*reversed(found)], "a.params")


def test_two_numbers_that_mean_the_same_are_refused() -> None:
    with pytest.raises(MappingError, match="not those of the network's layers"):
        instance_names.match(NAMES, [*NAMES, "mobilenet0_conv00_weight"], "a.params")
