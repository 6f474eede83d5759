from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from converter import catalog, mapping, pipeline
from converter.errors import ConversionError, MappingError
from converter.matching import rename

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
    in_model = list(dict.fromkeys(name.rpartition(".")[0] for name in tiny.shapes))
    assert [layer.target for layer in tiny_mapping.layers] == in_model


@pytest.mark.parametrize("number", LINES, ids=lambda number: RESNEXT.read_text().splitlines()[number].strip())
def test_no_line_can_go_unnoticed(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path, number: int
) -> None:
    lines = RESNEXT.read_text().splitlines()
    shorter = tmp_path / "shorter.toml"
    shorter.write_text("\n".join(lines[:number] + lines[number + 1 :]))
    with pytest.raises(ConversionError, match=r"shorter\.toml"):
        rename(mapping.read(shorter, tiny.config.depths), tiny_params, tiny.shapes, "holiday.params")


def test_a_table_without_a_line_is_blamed_and_not_the_users_file(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    (tmp_path / "shorter.toml").write_text(RESNEXT.read_text().replace('"output" = ["fc", "dense"]\n', ""))
    shorter = replace(tiny, mapping_file=tmp_path / "shorter.toml")
    with pytest.raises(MappingError, match=r"^mappings/shorter\.toml: does not fit .*\n  not mapped  fc"):
        pipeline.prepare(shorter, write(tiny_params))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["num_batches_tracked"]', '["weight"]', "mapped twice on PyTorch's side: bn1.weight"),
        ('"body.1" = ["bn1"', '"body.1" = ["bn2"', r"mapped twice on PyTorch's side: layer1.0.bn2.weight"),
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
    sections = ("before_stages", "every_block", "first_block", "after_stages")
    assert {kind for section in sections for _, kind in table[section].values()} == table["kinds"].keys()
