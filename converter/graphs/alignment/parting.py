"""Describes where the structures of a graph and a module part."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from converter import names
from converter.graphs.alignment.refinement import ancestry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.graphs.alignment.structure import AlignedLayer, Structure

SHOWN = 3  # layers of each side
MAX_WIDTH = 56  # of the left column


def describe(graph: Structure, module: Structure) -> str:
    """Return the first layers that have no partner, side by side, as the message of an error."""
    alone = _alone(graph, module)
    shared = len(graph.layers) - len(alone[0])
    lines = [f"{graph.title} and {module.title} have different layers"]
    lines.append(
        f"  matched         {shared} of {len(graph.layers)} layers in the graph, "
        f"{len(module.layers)} in the module"
    )
    if not alone[0] and not alone[1]:
        lines.append("  found           the same layers, with different connections after them")
        return "\n".join(lines)
    first = [_shown(side.layers, indices) for side, indices in zip((graph, module), alone, strict=True)]
    width = min(MAX_WIDTH, max(map(len, [*first[0], "in the graph"])))
    lines.append(f"  first mismatch  {'in the graph':{width}}  in the module")
    for place in range(max(map(len, first))):
        left, right = (column[place] if place < len(column) else "" for column in first)
        lines.append(f"                  {left:{width}}  {right}".rstrip())
    return "\n".join([*lines, *_counts(graph, module)])


def _alone(graph: Structure, module: Structure) -> tuple[list[int], list[int]]:
    """Return the layers of each side whose ancestry the other side lacks."""
    found: tuple[list[int], list[int]] = ([], [])
    classes: dict[bytes, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((graph, module)):
        for index, colour in enumerate(ancestry(side)):
            classes[colour][place].append(index)
    for left, right in classes.values():
        common = min(len(left), len(right))
        found[0].extend(left[common:])
        found[1].extend(right[common:])
    return sorted(found[0]), sorted(found[1])


def _shown(layers: Sequence[AlignedLayer], indices: list[int]) -> list[str]:
    """Return the first of the layers without a partner, in the order of computation."""
    if not indices:
        return ["(nothing)"]
    return [names.printable(layers[index].describe()) for index in indices[:SHOWN]]


def _counts(graph: Structure, module: Structure) -> list[str]:
    """Return which kinds and shapes one side has more of, the first few."""
    ours, theirs = (Counter(layer.form for layer in side.layers) for side in (graph, module))
    return [
        f"  only            {place}: "
        + ", ".join(f"{count} {form}" for form, count in list(extra.items())[:SHOWN])
        for place, extra in (("in the graph", ours - theirs), ("in the module", theirs - ours))
        if extra
    ]
