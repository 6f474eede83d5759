from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import reading
import torch
from fuzz import hostile
from torch import nn

from converter.errors import ConversionError, MappingError, StorageError
from converter.networks import catalog, mapping
from converter.networks.matching import rename
from resnext_torch import Basic, Bottleneck, Config, ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from resnext_torch.config import Shape

RESNEXT = catalog.find("gluon_resnext50_32x4d").mapping_file
# One network per layout, minimal: one block with a convolutional shortcut and one without.
SHALLOW = {
    f"{model.mapping_file.stem}/{model.entry.layout}": replace(
        model, config=replace(model.config, depths=(2,) * len(model.config.depths))
    )
    for model in catalog.models().values()
}
LINES = [
    (path.stem, number)
    for path in sorted({model.mapping_file for model in catalog.models().values()})
    for number, line in enumerate(path.read_text().partition("\n# The models")[0].splitlines())
    if ("=" in line and not line.startswith(("#", "stages"))) or line.startswith("    [")
]


def write_without_line(path: Path, number: int, folder: Path) -> Path:
    """Write a table without one of its lines."""
    lines = path.read_text().splitlines()
    shorter = folder / "shorter.toml"
    shorter.write_text("\n".join(lines[:number] + lines[number + 1 :]))
    return shorter


def line_text(line: tuple[str, int]) -> str:
    """Return the text of the line, as the test's id."""
    family, number = line
    return f"{family}: {RESNEXT.with_stem(family).read_text().splitlines()[number].strip()}"


@cache
def computing_layers(config: Config) -> set[str]:
    """Return the layers of our module that compute: blocks and leaf modules."""
    with torch.device("meta"):
        module = ResNeXt(config)
    return {
        name
        for name, part in module.named_modules()
        if isinstance(part, Bottleneck | Basic)
        or not (list(part.children()) or isinstance(part, nn.ReLU | nn.Dropout | nn.Identity))
    }


def assert_covers(model: Model, path: Path) -> None:
    """Check that a table covers a network: every tensor and every layer that computes."""
    table = mapping.read(path, model.entry.layout, model.config.depths)
    shapes: dict[str, Shape] = dict.fromkeys(model.shapes, (1,))  # only the names matter
    params = {tensor.source: np.ones(1, np.float32) for tensor in table.tensors}
    rename(table, params, shapes, "holiday.params")
    if {layer.target for layer in table.layers} != computing_layers(model.config):
        raise MappingError(f"{path.name}: not every layer that computes is compared")


# Counted in GluonCV's networks.
ARRAYS = {
    "gluon_resnext50_32x4d": 267,
    "gluon_resnext101_32x4d": 522,
    "gluon_resnext101_64x4d": 522,
    "gluon_seresnext50_32x4d": 331,
    "gluon_seresnext101_32x4d": 654,
    "gluon_seresnext101_64x4d": 654,
    "gluon_senet154": 987,
    "gluon_resnet50_v1b": 267,
    "gluon_resnet50_v1c": 277,
    "gluon_resnet50_v1d": 277,
    "gluon_resnet50_v1s": 277,
}


@pytest.mark.parametrize(("name", "arrays"), ARRAYS.items())
def test_table_expands_to_every_array_of_the_network(name: str, arrays: int) -> None:
    model = catalog.find(name)
    assert len(model.mapping.tensors) == arrays
    assert {*model.mapping.to_source(), *model.mapping.target_only} == model.shapes.keys()


@pytest.mark.parametrize("model", catalog.models().values(), ids=lambda model: model.name)
def test_every_tensor_and_layer_of_every_model_is_mapped(model: Model) -> None:
    assert_covers(model, model.mapping_file)


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
def test_names_map_in_both_directions(tiny_mapping: Mapping, source: str, target: str) -> None:
    assert tiny_mapping.to_target()[source] == target
    assert tiny_mapping.to_source()[target] == source


def test_layers_are_in_network_order(tiny: Model, tiny_mapping: Mapping) -> None:
    weighted = {tensor.layer.target for tensor in tiny_mapping.tensors}
    in_model = list(dict.fromkeys(name.rpartition(".")[0] for name in tiny.shapes))
    assert [layer.target for layer in tiny_mapping.layers if layer.target in weighted] == in_model
    first_block = [layer.target for layer in tiny_mapping.layers if layer.part == "layer1"]
    assert first_block[-1] == "layer1.0"


def test_every_layer_belongs_to_a_part(tiny_mapping: Mapping) -> None:
    parts = dict.fromkeys(layer.part for layer in tiny_mapping.layers)
    assert list(parts) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


@pytest.mark.parametrize("line", LINES, ids=line_text)
def test_removing_any_line_is_detected(tmp_path: Path, line: tuple[str, int]) -> None:
    family, number = line
    shorter = write_without_line(RESNEXT.with_stem(family), number, tmp_path)
    with pytest.raises(ConversionError, match=r"shorter\.toml"):  # noqa: PT012 - any of the layouts may fail
        for name, model in SHALLOW.items():
            if name.startswith(f"{family}/"):
                assert_covers(model, shorter)


def test_incomplete_table_is_blamed_instead_of_the_users_file(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    (tmp_path / "shorter.toml").write_text(RESNEXT.read_text().replace('"output" = ["fc", "dense"]\n', "", 1))
    shorter = replace(tiny, mapping_file=tmp_path / "shorter.toml")
    with pytest.raises(MappingError, match=r"^mappings/shorter\.toml: does not match .*\n  not mapped    fc"):
        reading.prepare(shorter, write(tiny_params))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["num_batches_tracked"]', '["weight"]', "PyTorch names that are mapped twice: bn1.weight"),
        ('"body.1" = ["bn1"', '"body.1" = ["bn2"', r"PyTorch names that are mapped twice: layer1.0.bn2"),
        (
            '["features.5", "layer2", ',
            '["features.4", "layer2", ',
            "Gluon names that are mapped twice: features.4.0",
        ),
        (
            '["conv1", "conv"]',
            '["conv1", "convolution"]',
            "features.0: unknown kind 'convolution'; expected one of conv",
        ),
        ('["conv1", "conv"]', '"conv1"', r"Expected `array`, got `str` - at `\$\.parts"),
        ("[layouts.plain]", '[layouts.plain]\nblocks = "body"', "Object contains unknown field `blocks`"),
        ("[kinds.", "[kind.", "Object contains unknown field `kind`$"),
        ("[parts.stem]", "[parts.stem", r"broken\.toml: "),
        ('before = ["stem"]', 'before = ["stalk"]', "unknown part 'stalk'; expected one of stem, deep_stem"),
        ("[layouts.plain]", "[layouts.simple]", "unknown layout 'plain'; expected one of simple, e"),
        (
            '    ["features.5", "layer2", "projection"],\n',
            "",
            r"layouts\.plain\.stages: expected 4, found 3$",
        ),
    ],
)
def test_invalid_table_is_refused(tiny: Model, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = RESNEXT.read_text()
    assert old in text
    (tmp_path / "broken.toml").write_text(text.replace(old, new))
    with pytest.raises(MappingError, match=message):
        mapping.read(tmp_path / "broken.toml", "plain", tiny.config.depths)


def test_line_may_have_a_hundred_dots(tiny: Model, tmp_path: Path) -> None:
    text = RESNEXT.read_text()
    (tmp_path / "dotted.toml").write_text(f"{text}\n#{'.' * 100}\n")
    assert mapping.read(tmp_path / "dotted.toml", "plain", tiny.config.depths).layers
    (tmp_path / "dotted.toml").write_text(f"{text}\n#{'.' * 101}\n")
    with pytest.raises(MappingError, match="more than 100 dots in a line"):
        mapping.read(tmp_path / "dotted.toml", "plain", tiny.config.depths)


def test_hash_is_that_of_the_file(tiny_mapping: Mapping) -> None:
    assert tiny_mapping.file == "resnext.toml"
    assert tiny_mapping.sha256 == hashlib.sha256(RESNEXT.read_bytes()).hexdigest()


@pytest.mark.parametrize("path", sorted(RESNEXT.parent.glob("*.toml")), ids=lambda path: path.stem)
def test_every_table_entry_is_used(path: Path) -> None:
    table = tomllib.loads(path.read_text())
    used = {kind for part in table["parts"].values() for _, kind in part.values()}
    layouts = table["layouts"].values()
    parts = {part for layout in layouts for key in ("before", "block", "after") for part in layout[key]}
    parts |= {shortcut for layout in layouts for *_, shortcut in layout["stages"]}
    assert used == table["kinds"].keys()
    assert parts - {"shortcut", ""} == table["parts"].keys()
    assert {model["layout"] for model in table["models"].values()} == table["layouts"].keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (hostile.table(before=2000, lines=100, roles=0), "expands to more than 100000 layers or tensors"),
        (hostile.table(before=1, lines=1000, roles=101), "expands to more than 100000 layers or tensors"),
        (b"a" + b".a" * 101 + b" = 1", "more than 100 dots in a line"),
        (b"a = " + b"[" * 3000, "maximum recursion depth exceeded"),
        (b"a = " + b"9" * 5000, "Exceeds the limit"),
        (b"a = '\xff'", "'utf-8' codec can't decode"),
    ],
    ids=["layers", "tensors", "dotted", "nested", "digits", "no UTF-8"],
)
def test_table_that_expands_too_much_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_bytes(content)
    with pytest.raises(MappingError, match=rf"big\.toml: {message}"):
        mapping.read(path, "plain", (2, 1))


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.toml: No such file"):
        mapping.read(tmp_path / "none.toml", "plain", (2, 1))


def test_file_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_bytes(b"#" * (mapping.MAX_BYTES + 1))
    with pytest.raises(StorageError, match=rf"big\.toml: more than {mapping.MAX_BYTES} bytes"):
        mapping.read(path, "plain", (2, 1))
