"""The first line of a refusal says what the parameters are; the last one what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_wrappings import LIST, SSD, array, arrays_of, backbone_of, index_based, moved, prefixed

from converter.errors import ConversionError
from converter.networks import catalog, resolution
from converter.networks.selection import ParamsSource

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.location import LocatedNetwork

RESNEXT, RESNET = "gluon_resnext50_32x4d", "gluon_resnet18_v1b"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "holiday.params"
    path.write_bytes(b"unread")
    return path


def find(
    path: Path, arrays: dict[str, Array], model: str | None = None, *, backbone: bool = False
) -> list[LocatedNetwork]:
    source = ParamsSource(catalog.find(model) if model else None, path, backbone=backbone)
    return resolution.find_usable(source, arrays, str(path))


def refusal(path: Path, arrays: dict[str, Array], model: str | None = None) -> list[str]:
    """Return the lines of the error, without the folder."""
    with pytest.raises(ConversionError) as raised:
        find(path, arrays, model)
    return str(raised.value).replace(f"{path.parent}/", "").splitlines()


def test_another_network_is_named(path: Path) -> None:
    first, *_, last = refusal(path, arrays_of(catalog.find("gluon_resnet50_v1c")), "gluon_resnet50_v1b")
    assert first == "holiday.params: these are the tensors of gluon_resnet50_v1c"
    assert last == "  try         gluon_resnet50_v1c in place of gluon_resnet50_v1b, or auto"


def test_another_network_in_a_wrapping_is_named(path: Path) -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNEXT)), "model.")
    assert (
        refusal(path, arrays, RESNET)[0]
        == f"holiday.params: these are the tensors of {RESNEXT} behind `model.`"
    )


def test_backbone_in_place_of_a_network_is_named(path: Path) -> None:
    arrays = moved(backbone_of(catalog.find(RESNET)), LIST, "base.") | {"head.weight": array(4, 4, 3, 3)}
    place = "its layers as a list behind `base.`"
    assert refusal(path, arrays, RESNET) == [
        f"holiday.params: contains the backbone of {RESNET} without a head: {place}",
        "  other       head.weight",
        "  try         --backbone, which converts the network without a head",
    ]
    (found,) = find(path, arrays, RESNET, backbone=True)
    assert found.is_backbone


def test_stride_of_an_ssd_is_named(path: Path) -> None:
    arrays = moved(backbone_of(catalog.find(RESNET)), SSD)
    first, last = refusal(path, arrays)
    assert first.endswith(
        ": `features` of an SSD, which the SSD runs with stride 1 in place of 2 in its third stage"
    )
    assert last.split()[1] == "--backbone,"
    for model in (None, RESNET):
        (found,) = find(path, arrays, model, backbone=True)
        assert not found.has_own_strides


@pytest.mark.parametrize("prefix", ["", "model."])
def test_channels_last_is_named(prefix: str, path: Path) -> None:
    arrays = {
        name: array(each.shape[0], *each.shape[2:], each.shape[1]) if each.ndim == 4 else each
        for name, each in prefixed(arrays_of(catalog.find(RESNET)), prefix).items()
    }
    first, last = refusal(path, arrays)
    assert first.startswith(
        f"holiday.params: {RESNET}{' behind `model.`' * bool(prefix)}, in the layout NHWC"
    )
    assert "weight.transpose(0, 3, 1, 2)" in last


@pytest.mark.parametrize("model", [None, RESNET])
def test_missing_statistics_are_named(model: str | None, path: Path) -> None:
    arrays = {name: each for name, each in arrays_of(catalog.find(RESNET)).items() if "running" not in name}
    first, reason, last = refusal(path, arrays, model)
    assert first == (
        f"holiday.params: {RESNET} without running statistics, or with another normalization in place of its "
        "20 BatchNorms"
    )
    assert "GroupNorm, as in GluonCV's resnet50_v1b_gn, is not supported" in reason
    assert "net.save_parameters" in last


def test_missing_statistics_of_index_based_names_are_named(path: Path) -> None:
    arrays = index_based(catalog.find(RESNEXT), "resnext0_")
    arrays = {name: each for name, each in arrays.items() if "running" not in name}
    assert refusal(path, arrays)[0].startswith(f"holiday.params: {RESNEXT} without running statistics")


def test_some_missing_statistics_are_listed(path: Path) -> None:
    arrays = arrays_of(catalog.find(RESNET))
    del arrays["bn1.running_var"]
    assert "  missing     bn1.running_var" in refusal(path, arrays, RESNET)


def test_quantized_network_is_named(path: Path) -> None:
    arrays = arrays_of(catalog.find(RESNET))
    arrays["conv1_weight_quantize"] = np.zeros((64, 3, 7, 7), np.int8)
    assert refusal(path, arrays) == [
        "holiday.params: parameters of a network quantized to int8: 1 of 103 arrays is int8",
        "  try         the float parameters from which it was quantized",
    ]


def test_head_of_another_shape_is_listed(path: Path) -> None:
    arrays = arrays_of(catalog.find(RESNET)) | {"fc.bias": array(7)}
    for model in (None, RESNET):
        assert "  fc.bias: expected shape (1000,), found (7,)" in refusal(path, arrays, model)


def test_network_with_other_parameters_is_refused(path: Path) -> None:
    arrays = arrays_of(catalog.find(RESNET)) | {"attention.weight": array(512, 512, 1, 1)}
    for model in (None, RESNET):
        assert refusal(path, arrays, model) == [
            f"holiday.params: {RESNET} with 1 other parameter that it may depend on",
            "  other       attention.weight",
            "  try         --backbone, which converts the network without a head",
        ]


def test_name_that_begins_like_the_head_is_another_parameter(path: Path) -> None:
    arrays = arrays_of(catalog.find(RESNEXT)) | {"output_gate.weight": array(3, 3, 1, 1)}
    assert refusal(path, arrays)[:2] == [
        f"holiday.params: {RESNEXT} with 1 other parameter that it may depend on",
        "  other       output_gate.weight",
    ]


def test_two_different_networks_are_refused(path: Path) -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNET)), "a.")
    arrays |= prefixed(arrays_of(catalog.find("gluon_resnet34_v1b")), "b.")
    first, *rest = refusal(path, arrays)
    assert first == "holiday.params: contains 2 networks"
    assert {name in "\n".join(rest) for name in (RESNET, "gluon_resnet34_v1b")} == {True}


def test_network_that_occurs_twice_is_refused(path: Path) -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNET)), "a.") | prefixed(arrays_of(catalog.find(RESNET)), "b.")
    first, *_, last = refusal(path, arrays)
    assert first == "holiday.params: contains 2 networks"
    assert last == "  try         a file that contains one of them"
