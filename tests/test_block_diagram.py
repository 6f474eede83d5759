from __future__ import annotations

import random
from typing import Any

import pytest

from converter.networks import catalog
from converter.parity import block_diagram
from converter.parity.block_diagram import HEIGHT, WIDTH, DiagramBlock
from converter.parity.diagram_rows import BoxRow, DiagramRow, layer_inputs


def box(target: str, *inputs: int, kind: str = "conv", part: str = "", **error: Any) -> BoxRow:  # noqa: ANN401 - fields of BoxRow
    return BoxRow(source="", target=target, kind=kind, part=part, inputs=inputs, **error)


def diagram(*boxes: BoxRow) -> DiagramRow:
    return DiagramRow(check=0, compared="end to end", culprit=None, boxes=boxes)


def blocks(value: DiagramRow) -> list[DiagramBlock]:
    return [block for section in block_diagram.sections(value) for block in section.blocks]


def named(model: str) -> DiagramRow:
    layers = catalog.find(model).mapping.layers
    inputs = layer_inputs(layers)
    return diagram(
        *(
            box(layer.target, *before, kind=layer.kind, part=layer.part)
            for layer, before in zip(layers, inputs, strict=True)
        )
    )


def test_shortcut_begins_and_ends_with_its_block() -> None:
    layers = catalog.find("gluon_resnext50_32x4d").mapping.layers
    inputs = layer_inputs(layers)
    targets = [layer.target for layer in layers]
    before = {
        target: [targets[place] for place in places] for target, places in zip(targets, inputs, strict=True)
    }
    assert before["conv1"] == []
    assert before["layer1.0.conv1"] == before["layer1.0.downsample.0"] == ["maxpool"]
    assert before["layer1.0"] == ["layer1.0.bn3", "layer1.0.downsample.1"]
    assert before["layer1.1.conv1"] == ["layer1.0"]
    assert before["layer1.1"] == ["layer1.1.bn3", "layer1.0"]
    assert before["avgpool"] == ["layer4.2"]
    assert before["fc"] == ["avgpool"]


@pytest.mark.parametrize("model", catalog.models())
def test_every_layer_of_a_model_but_the_first_has_inputs_before_it(model: str) -> None:
    inputs = layer_inputs(catalog.find(model).mapping.layers)
    assert [number for number, before in enumerate(inputs) if not before] == [0]
    assert all(place < number for number, before in enumerate(inputs) for place in before)


def test_parts_have_their_blocks() -> None:
    sections = block_diagram.sections(named("gluon_resnext50_32x4d"))
    assert [section.name for section in sections] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert [block.caption for block in sections[1].blocks] == ["0", "1", "2"]
    assert [each.label for each in sections[1].blocks[0].boxes][-3:] == [
        "downsample.0",
        "downsample.1",
        "block",
    ]


def test_expressions_are_in_the_block_before_them() -> None:
    (first, second) = blocks(
        diagram(box("a.0.conv"), box("", 0, kind="relu"), box("a.1.conv", 1), box("", 2, kind="Concat"))
    )
    assert [each.label for each in first.boxes] == ["conv", "relu"]
    assert [each.label for each in second.boxes] == ["conv", "Concat"]


@pytest.mark.parametrize(("prefix", "count"), [("net", 3), ("net.features.0", 3)])
def test_long_block_is_split(prefix: str, count: int) -> None:
    boxes = [box(f"{prefix}.conv{number}", *[number - 1][: number > 0]) for number in range(100)]
    found = blocks(diagram(*boxes))
    assert [len(block.boxes) for block in found] == [40, 40, 20][:count]


def test_long_block_is_split_by_names_first() -> None:
    boxes = [box(f"net.features.{number // 30}.conv{number}") for number in range(60)]
    assert [block.name for block in blocks(diagram(*boxes))] == ["net.features.0", "net.features.1"]


def crossings(block: DiagramBlock) -> list[tuple[int, str]]:
    """Return the boxes that a vertical part of a line crosses."""
    found = []
    for line in block.lines:
        begin, down, *_ = line.removeprefix("M").replace("V", " ").replace("H", " ").split()[0:3]
        x, top, bottom = int(begin), int(down), int(line.split("V")[1].split("H")[0])
        found += [
            (each.number, line)
            for each in block.boxes
            if each.x < x < each.x + WIDTH and top < each.y + HEIGHT and each.y < bottom
        ]
    return found


def overlaps(block: DiagramBlock) -> list[tuple[int, int]]:
    return [
        (one.number, other.number)
        for one in block.boxes
        for other in block.boxes
        if one.number < other.number and one.y == other.y and abs(one.x - other.x) < WIDTH
    ]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_do_not_overlap_and_lines_do_not_cross_them(seed: int) -> None:
    """Graphs with arbitrary branches."""
    choose = random.Random(seed)  # noqa: S311 - the same graphs in every run
    boxes = [
        box(f"net.{number}", *choose.sample(range(number), min(number, choose.choice((1, 1, 2, 3)))))
        for number in range(30)
    ]
    (block,) = blocks(diagram(*boxes))
    assert overlaps(block) == []
    assert crossings(block) == []
    assert all(each.x + WIDTH < block.width and each.y + HEIGHT < block.height for each in block.boxes)
    assert len(block.lines) == sum(len(each.inputs) for each in boxes)


def test_crossing_is_detected() -> None:
    """Negative control: a line through the box between its ends."""
    (block,) = blocks(diagram(box("net.a"), box("net.b", 0), box("net.c", 1)))
    middle = block.boxes[0].x + WIDTH // 2
    line = f"M{middle} {block.boxes[0].y + HEIGHT}V{block.boxes[2].y}H{middle}V{block.boxes[2].y}"
    assert crossings(DiagramBlock(name="", boxes=block.boxes, lines=(line,), width=0, height=0)) == [
        (1, line)
    ]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        ({}, "none"),
        ({"agrees": True, "relative": 0.0, "limit": 1.0}, "equal"),
        ({"agrees": True, "relative": 0.01, "limit": 1.0}, "low"),
        ({"agrees": True, "relative": 0.02, "limit": 1.0}, "mid"),
        ({"agrees": False, "relative": 1.1, "limit": 1.0}, "high"),
        ({"agrees": False, "relative": 1001.0, "limit": 1.0}, "top"),
        ({"agrees": False, "relative": None, "limit": 1.0}, "top"),
        ({"agrees": True, "relative": 5.0, "limit": 1.0}, "mid"),  # after a discrete operator
    ],
)
def test_colour_shows_the_error_in_relation_to_its_limit(error: dict[str, Any], level: str) -> None:
    assert block_diagram.level(box("a", **error)) == level
    assert level in block_diagram.LEVELS


def test_long_names_are_clipped() -> None:
    (block,) = blocks(diagram(box("net." + "x" * 50)))
    assert block.boxes[0].label == "x" * 20 + "…"


def test_names_of_any_kind_are_drawn() -> None:
    """Names in files may be empty or have dots anywhere."""
    value = diagram(box("", kind="relu"), box("."), box("..a"), box("a."), box("a.b.", 1))
    assert sum(len(block.boxes) for block in blocks(value)) == 5
