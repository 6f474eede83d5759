from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from torch import nn

from converter import catalog, mapping, preparation
from converter.errors import ConversionError, MappingError
from converter.matching import rename
from resnext_torch import Bottleneck, ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.catalog import Model
    from converter.mapping import Mapping
    from converter.params import Array

RESNEXT = catalog.find("gluon_resnext50_32x4d").mapping_file
LINES = [
    number
    for number, line in enumerate(RESNEXT.read_text().partition("\n# The models")[0].splitlines())
    if ("=" in line and not line.startswith("#")) or line.startswith("    [")
]
WEIGHTLESS = [
    number for number in LINES if RESNEXT.read_text().splitlines()[number].endswith(('"pool"]', '"block"]'))
]


def without(number: int, folder: Path) -> Path:
    """Write the table without one of its lines."""
    lines = RESNEXT.read_text().splitlines()
    shorter = folder / "shorter.toml"
    shorter.write_text("\n".join(lines[:number] + lines[number + 1 :]))
    return shorter


def computing(model: Model) -> set[str]:
    """Return the layers of our module that compute: the blocks, and what has no parts of its own."""
    module = ResNeXt(model.config)
    return {
        name
        for name, part in module.named_modules()
        if isinstance(part, Bottleneck) or not (list(part.children()) or isinstance(part, nn.ReLU))
    }


@pytest.mark.parametrize(("name", "tensors"), [("50_32x4d", 267), ("101_32x4d", 522), ("101_64x4d", 522)])
def test_a_table_expands_to_every_array_of_the_network(name: str, tensors: int) -> None:
    model = catalog.find(f"gluon_resnext{name}")
    expanded = mapping.read(model.mapping_file, model.config.depths)
    assert len(expanded.tensors) == tensors
    assert {*expanded.to_source(), *expanded.target_only} == model.shapes.keys()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("features.0.weight", "conv1.weight"),
        ("features.1.running_var", "bn1.running_var"),
        ("features.4.0.downsample.1.beta", "layer1.0.downsample.1.bias"),
        ("features.5.1.body.3.weight", "layer2.1.conv2.weight"),
        ("features.7.0.body.7.gamma", "layer4.0.bn3.weight"),
        ("output.bias", "fc.bias"),
    ],
)
def test_names_go_where_the_paper_says_and_back(tiny_mapping: Mapping, source: str, target: str) -> None:
    assert tiny_mapping.to_target()[source] == target
    assert tiny_mapping.to_source()[target] == source


def test_layers_come_in_the_order_of_the_network(tiny: Model, tiny_mapping: Mapping) -> None:
    weighted = {tensor.layer.target for tensor in tiny_mapping.tensors}
    in_model = list(dict.fromkeys(name.rpartition(".")[0] for name in tiny.shapes))
    assert [layer.target for layer in tiny_mapping.layers if layer.target in weighted] == in_model
    first_block = [layer.target for layer in tiny_mapping.layers if layer.part == "layer1"]
    assert first_block[-1] == "layer1.0"


def test_every_layer_belongs_to_a_part_of_the_network(tiny_mapping: Mapping) -> None:
    parts = dict.fromkeys(layer.part for layer in tiny_mapping.layers)
    assert list(parts) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


def test_every_layer_that_computes_is_compared(tiny: Model, tiny_mapping: Mapping) -> None:
    assert {layer.target for layer in tiny_mapping.layers} == computing(tiny)


@pytest.mark.parametrize("number", WEIGHTLESS, ids=lambda number: RESNEXT.read_text().splitlines()[number])
def test_a_layer_without_weights_cannot_go_unnoticed_either(tiny: Model, tmp_path: Path, number: int) -> None:
    shorter = mapping.read(without(number, tmp_path), tiny.config.depths)
    assert {layer.target for layer in shorter.layers} != computing(tiny)


@pytest.mark.parametrize(
    "number",
    [number for number in LINES if number not in WEIGHTLESS],
    ids=lambda number: RESNEXT.read_text().splitlines()[number].strip(),
)
def test_no_line_can_go_unnoticed(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path, number: int
) -> None:
    with pytest.raises(ConversionError, match=r"shorter\.toml"):
        rename(
            mapping.read(without(number, tmp_path), tiny.config.depths),
            tiny_params,
            tiny.shapes,
            "holiday.params",
        )


def test_a_table_without_a_line_is_blamed_and_not_the_users_file(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    (tmp_path / "shorter.toml").write_text(RESNEXT.read_text().replace('"output" = ["fc", "dense"]\n', ""))
    shorter = replace(tiny, mapping_file=tmp_path / "shorter.toml")
    with pytest.raises(MappingError, match=r"^mappings/shorter\.toml: does not fit .*\n  not mapped  fc"):
        preparation.prepare(shorter, write(tiny_params))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["num_batches_tracked"]', '["weight"]', "mapped twice on PyTorch's side: bn1.weight"),
        ('"body.1" = ["bn1"', '"body.1" = ["bn2"', r"mapped twice on PyTorch's side: layer1.0.bn2"),
        (
            '["features.5", "layer2"]',
            '["features.4", "layer2"]',
            "mapped twice on Gluon's side: features.4.0",
        ),
        (
            '["conv1", "conv"]',
            '["conv1", "convolution"]',
            "features.0: no kind 'convolution'; there are conv",
        ),
        ('["conv1", "conv"]', '"conv1"', r"Expected `array`, got `str` - at `\$\.before_stages"),
        ("[before_stages]", "[once]", "unknown field `once`|missing required field `before_stages`"),
        ("[before_stages]", "[before", r"broken\.toml: "),
        ('    ["features.5", "layer2"],\n', "", "stages: 4 expected, 3 found"),
    ],
)
def test_a_table_that_says_something_wrong_is_refused(
    tiny: Model, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = RESNEXT.read_text()
    assert old in text
    (tmp_path / "broken.toml").write_text(text.replace(old, new))
    with pytest.raises(MappingError, match=message):
        mapping.read(tmp_path / "broken.toml", tiny.config.depths)


def test_the_hash_is_that_of_the_file(tiny_mapping: Mapping) -> None:
    assert tiny_mapping.file == "resnext.toml"
    assert tiny_mapping.sha256 == hashlib.sha256(RESNEXT.read_bytes()).hexdigest()


def test_every_line_cites_a_layer_of_a_known_kind() -> None:
    table = tomllib.loads(RESNEXT.read_text())
    sections = ("before_stages", "every_block", "first_block", "whole_block", "after_stages")
    assert {kind for section in sections for _, kind in table[section].values()} == table["kinds"].keys()
