"""The ``config.json`` of a repository on the Hub names the network that its weights belong to."""

from __future__ import annotations

import json

import pytest

from converter.errors import SourceError
from converter.networks import catalog, hub_configuration

PLACE = "hf-hub:org/tiny"
NAME = "gluon_resnet18_v1b"
POOLED = "gluon_resnet50_v1d"  # pools in its shortcuts
OTHER = "weights of {}, not of {}, whose tensors are the same"


def require(name: str, content: object, output_stride: int | None = None) -> None:
    model = catalog.find(name)
    hub_configuration.require_network(model, json.dumps(content).encode(), PLACE, output_stride)


@pytest.mark.parametrize(
    ("content", "output_stride"),
    [
        ({}, None),
        ({}, 8),
        ({"architecture": "resnet18", "model_args": None}, None),
        ({"architecture": NAME}, None),
        ({"architectures": ["ResNetForImageClassification"]}, None),
        ({"model_args": {"drop_path_rate": 0.1, "drop_rate": 0.5, "in_chans": 1, "num_classes": 7}}, None),
        ({"model_args": {"global_pool": "avg"}}, None),
        ({"model_args": {"output_stride": 32}}, None),
        ({"architecture": "resnet18", "model_args": {"output_stride": 8}}, 8),
    ],
)
def test_configuration_of_the_network_is_accepted(content: object, output_stride: int | None) -> None:
    require(NAME, content, output_stride)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAME, {"architecture": "resnetblur18"}, OTHER.format("resnetblur18", NAME)),
        (NAME, {"architecture": "gluon_resnet34_v1b"}, OTHER.format("gluon_resnet34_v1b", NAME)),
        (
            NAME,
            {"architecture": "resnet34"},
            r"\n  expected  architecture resnet18 in config.json, found resnet34",
        ),
        (NAME, {"architecture": "\x1b[2J"}, r"weights of \\x1b\[2J, not of"),
        (POOLED, {"architecture": "resnetaa50d"}, OTHER.format("resnetaa50d", POOLED)),
        (NAME, {"model_args": {"aa_layer": "blur"}}, "arguments that are not supported: aa_layer='blur'"),
        (NAME, {"model_args": {"global_pool": "max"}}, "not supported: global_pool='max'"),
        (NAME, {"architecture": 1}, "does not describe a network: Expected `str | null`, got `int`"),
        (NAME, [], "does not describe a network: Expected `object`, got `array`"),
    ],
)
def test_configuration_of_another_network_is_refused(name: str, content: object, message: str) -> None:
    with pytest.raises(SourceError, match=f"^{PLACE}: .*{message}"):
        require(name, content)


@pytest.mark.parametrize(
    ("recorded", "selected", "hint"),
    [(8, None, True), (8, 16, True), (32, 8, True), ("8", 8, False), (True, None, False), ([], 8, False)],
)
def test_another_output_stride_is_refused(recorded: object, selected: int | None, *, hint: bool) -> None:
    with pytest.raises(SourceError) as refused:
        require(NAME, {"model_args": {"output_stride": recorded}}, selected)
    first, *others = str(refused.value).splitlines()
    assert first == f"{PLACE}: config.json has the output stride {recorded!r}, not {selected or 32}"
    assert others == [f"  try       --output-stride {recorded}"] * hint


def test_dilated_network_of_timm_with_pooled_shortcuts_is_refused() -> None:
    """timm pools in such a shortcut, GluonCV does not."""
    arguments = {"output_stride": 8}
    with pytest.raises(SourceError, match=f"timm's dilated {POOLED} pools in its shortcuts"):
        require(POOLED, {"architecture": "resnet50d", "model_args": arguments}, 8)
    require(POOLED, {"model_args": arguments}, 8)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"architecture": "\xff"}', b'{"model_args": {"a": ' + b"[" * 100_000]
)
def test_malformed_configuration_is_refused(content: bytes) -> None:
    with pytest.raises(SourceError, match=f"^{PLACE}: config.json does not describe a network"):
        hub_configuration.require_network(catalog.find(NAME), content, PLACE, None)
