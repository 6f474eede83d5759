"""Lay out a report's block diagram: parts of the network, blocks within them, and boxes along lanes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.parity.diagram_rows import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.parity.diagram_rows import BoxRow, DiagramRow

MAX_BOXES = 40  # of a block; a longer one is split by its names, else into pieces
WIDTH, HEIGHT = 148, 22  # of a box, in pixels
GAP, ROW = 18, HEIGHT + 12
LINE = 12  # width of a lane that has no box
MARGIN = 8
CHARACTERS = 21  # of a box's label
# Fractions and multiples of the limit at which the colour changes.
LOW, HIGH = 0.01, 1000.0
LEVELS = {
    "equal": "equal",
    "low": "below 1 % of the limit",
    "mid": "within the limit",
    "high": "above the limit",
    "top": "above 1,000 × the limit, or not finite",
    "none": "not compared",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A drawn box.

    Attributes:
        number: its number in the diagram.
        row: what it shows.
        label: its text.
        level: its colour, a key of ``LEVELS``.
        x: the left edge.
        y: the upper edge.
    """

    number: int
    row: BoxRow
    label: str
    level: str
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagramBlock:
    """A group of boxes with the lines between them.

    Attributes:
        name: the common prefix of the boxes' names, "" if they have none.
        boxes: the boxes.
        lines: the SVG paths of the connections.
        width: in pixels.
        height: in pixels.
    """

    name: str
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]
    width: int
    height: int

    @property
    def caption(self) -> str:
        """The name within its part, or the first box."""
        return self.name.partition(".")[2] or self.name or f"{self.boxes[0].label} …"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the network."""

    name: str
    blocks: tuple[DiagramBlock, ...]

    @property
    def levels(self) -> list[str]:
        """The levels of all boxes."""
        return [box.level for block in self.blocks for box in block.boxes]


def sections(diagram: DiagramRow) -> list[Section]:
    """Return the drawn network."""
    groups = itertools.groupby(range(len(diagram.boxes)), key=lambda number: diagram.boxes[number].part)
    return [
        Section(
            name=part,
            blocks=tuple(_block(diagram, group) for group in _split(_owners(diagram), [*numbers])),
        )
        for part, numbers in groups
    ]


def level(row: BoxRow) -> str:
    """Return the colour of an error."""
    if row.agrees is None:
        return "none"
    if row.relative is None:
        return "top"
    if row.relative == 0:
        return "equal"
    if row.agrees:
        return "low" if row.relative <= LOW * row.limit else "mid"
    return "high" if row.relative <= HIGH * row.limit else "top"


def _owners(diagram: DiagramRow) -> list[tuple[str, ...]]:
    """Return the path of the block that each box belongs to; an expression is in the block before it."""
    owners: list[tuple[str, ...]] = []
    for row in diagram.boxes:
        path = tuple(row.target.split("."))
        if not row.target:
            owners.append(owners[-1] if owners else ())
        else:
            owners.append(path if row.kind == BLOCK else path[:-1])
    return owners


def _split(owners: Sequence[tuple[str, ...]], numbers: list[int], depth: int = 2) -> list[list[int]]:
    """Split consecutive boxes by their blocks, and blocks that are too long further."""
    groups = []
    for _, each in itertools.groupby(numbers, key=lambda number: owners[number][:depth]):
        group = [*each]
        if len(group) <= MAX_BOXES:
            groups.append(group)
        elif any(len(owners[number]) > depth for number in group):
            groups += _split(owners, group, depth + 1)
        else:
            groups += [group[begin : begin + MAX_BOXES] for begin in range(0, len(group), MAX_BOXES)]
    return groups


def _block(diagram: DiagramRow, numbers: list[int]) -> DiagramBlock:
    """Place the boxes of a block: a row for every step of the computation, a lane for every branch."""
    rows = _rows(diagram, numbers)
    lanes, entries = _lanes(diagram, numbers, rows)
    count = 1 + max([*lanes.values(), *(lane for _, lane in entries)])
    widths = [WIDTH if lane in lanes.values() else LINE for lane in range(count)]
    edges = [*itertools.accumulate((width + GAP for width in widths), initial=MARGIN)]
    name = _common_prefix([diagram.boxes[number].target for number in numbers])
    boxes = tuple(
        Box(
            number=number,
            row=diagram.boxes[number],
            label=_label(diagram.boxes[number], name),
            level=level(diagram.boxes[number]),
            x=edges[lanes[number]],
            y=MARGIN + rows[number] * ROW,
        )
        for number in numbers
    )
    at = {box.number: box for box in boxes}
    lines = [
        _line(at[source].x + WIDTH // 2, at[source].y + HEIGHT, at[number])
        for number in numbers
        for source in diagram.boxes[number].inputs
        if source in at
    ]
    lines += [_line(edges[lane] + widths[lane] // 2, 0, at[number]) for number, lane in entries]
    return DiagramBlock(
        name=name,
        boxes=boxes,
        lines=tuple(lines),
        width=edges[-1] - GAP + MARGIN,
        height=MARGIN + (1 + max(rows.values())) * ROW,
    )


def _rows(diagram: DiagramRow, numbers: Sequence[int]) -> dict[int, int]:
    """Return the row of each box: below all boxes that it takes as input."""
    rows: dict[int, int] = {}
    for number in numbers:
        before = [rows[source] for source in diagram.boxes[number].inputs if source in rows]
        rows[number] = max(before, default=-1) + 1
    return rows


def _lanes(
    diagram: DiagramRow, numbers: Sequence[int], rows: dict[int, int]
) -> tuple[dict[int, int], list[tuple[int, int]]]:
    """Return the lane of each box, and the boxes and lanes of lines that enter the block from above.

    A lane is busy until the last box that takes its value as input, so that no line crosses a box.
    """
    ends = dict(rows)
    for number in numbers:
        for source in diagram.boxes[number].inputs:
            if source in ends:
                ends[source] = max(ends[source], rows[number] - 1)
    lanes: dict[int, int] = {}
    busy: list[int] = []  # the last row in which each lane is busy
    for number in sorted(numbers, key=lambda each: (rows[each], each)):
        before = [lanes[source] for source in diagram.boxes[number].inputs if source in lanes]
        free = [lane for lane, until in enumerate(busy) if until < rows[number]]
        lane = next((lane for lane in before[:1] if lane in free), min(free, default=len(busy)))
        busy[lane:] = [ends[number], *busy[lane + 1 :]]
        lanes[number] = lane
    entering = [number for number in numbers if not lanes.keys() >= {*diagram.boxes[number].inputs}]
    below = [number for number in entering if rows[number]]
    own = {number: len(busy) + place for place, number in enumerate(below)}
    return lanes, [(number, own.get(number, lanes[number])) for number in entering]


def _line(x: int, y: int, target: Box) -> str:
    """Return the path from a point above a box to the box: down its lane, then across."""
    return f"M{x} {y}V{target.y - 5}H{target.x + WIDTH // 2}V{target.y}"


def _label(row: BoxRow, prefix: str) -> str:
    """Return the name of a box within its block."""
    named = row.target and row.target != prefix
    text = row.target.removeprefix(f"{prefix}.") if named else row.kind
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"


def _common_prefix(names: Sequence[str]) -> str:
    paths = [name.split(".") for name in names if name]
    if not paths:
        return ""
    shared = [
        words[0]
        for words in itertools.takewhile(lambda words: len(set(words)) == 1, zip(*paths, strict=False))
    ]
    if [*shared] in paths and len(paths) == 1:
        shared = shared[:-1]
    return ".".join(shared)
