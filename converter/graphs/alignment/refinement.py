"""Pairs the layers of two structures by colour refinement (Weisfeiler and Leman 1968).

A layer's first colour is its kind and shapes; each round adds the colours of its neighbours. Layers that stay
alike are symmetric: they are paired in the order of computation, one class at a time, and the pairing is
refined again, so that their neighbours follow.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.graphs.alignment.structure import CONVOLUTION, DENSE, WEIGHT, every

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converter.graphs.alignment.structure import AlignedLayer, Sources, Structure

Colour = bytes
Colours = list[Colour]
LINEAR = "linear map of channels"  # a dense layer, or a 1×1 convolution


@dataclass(frozen=True, slots=True)
class View:
    """What a refinement distinguishes.

    Attributes:
        exact: whether a layer with a bias differs from one without, and a 1×1 convolution from a dense layer.
        ordered: whether the order of the parts of a concatenation counts.
    """

    exact: bool
    ordered: bool

    def key(self, layer: AlignedLayer) -> str:
        """Return what a layer is, without its neighbours."""
        if self.exact:
            return repr((layer.kind, sorted(layer.shapes.items())))
        shape = layer.shapes.get(WEIGHT, next(iter(layer.shapes.values()), ()))
        if layer.kind in {CONVOLUTION, DENSE} and set(shape[2:]) <= {1}:
            return repr((LINEAR, shape[:2], layer.settings.get("groups", 1)))
        return repr((layer.kind, shape))

    def parts(self, sources: Sources) -> Sources:
        """Return sources with one part only if their order does not count."""
        return sources if self.ordered or not sources else (frozenset(every([sources])),)


VIEWS = tuple(View(exact=exact, ordered=ordered) for exact in (True, False) for ordered in (True, False))


def pair(graph: Structure, module: Structure) -> tuple[dict[int, int], int] | None:
    """Return the module's layer of each layer of the graph, and how many were paired by their order.

    Returns:
        None if there is no one-to-one pairing that keeps the connections.
    """
    if len(graph.layers) != len(module.layers):
        return None
    for view in VIEWS:
        if (found := _Refinement(view, graph, module).pairs()) is not None:
            return found
    return None


class _Refinement:
    """The refinement of two structures in one view."""

    def __init__(self, view: View, graph: Structure, module: Structure) -> None:
        self.sides = (graph, module)
        self.view = view
        self.sources = [[view.parts(layer.sources) for layer in side.layers] for side in self.sides]
        self.readers = [_readers(side, self.sources[place]) for place, side in enumerate(self.sides)]
        same = len(graph.outputs) == len(module.outputs)
        self.ends = [_ends(view, side) if same else [""] * len(side.layers) for side in self.sides]

    def pairs(self) -> tuple[dict[int, int], int] | None:
        colours: list[Colours] = [
            [_digest(self.view.key(layer), end) for layer, end in zip(side.layers, ends, strict=True)]
            for side, ends in zip(self.sides, self.ends, strict=True)
        ]
        ties: set[int] = set()
        while True:
            colours = self._refined(colours)
            classes = _classes(colours)
            if any(len(left) != len(right) for left, right in classes):
                return None
            symmetric = [each for each in classes if len(each[0]) > 1]
            if not symmetric:
                return {left[0]: right[0] for left, right in classes}, len(ties)
            if not ties:
                ties = {member for left, _ in symmetric for member in left}
            left, right = min(symmetric)
            colours[0][left[0]] = colours[1][right[0]] = _digest("paired", colours[0][left[0]])

    def _refined(self, colours: list[Colours]) -> list[Colours]:
        """Return the colours that no further round divides."""
        count = len({*colours[0], *colours[1]})
        while True:
            colours = [self._round(place, each) for place, each in enumerate(colours)]
            previous, count = count, len({*colours[0], *colours[1]})
            if count == previous:
                return colours

    def _round(self, place: int, colours: Colours) -> Colours:
        def of(member: int) -> Colour:
            return colours[member] if member >= 0 else str(member).encode()

        return [
            _digest(
                colours[index],
                *_parts(self.sources[place][index], of),
                b"readers",
                *sorted(_digest(part, of(reader)) for reader, part in self.readers[place][index]),
            )
            for index in range(len(colours))
        ]


def _parts(sources: Sources, colour: Callable[[int], Colour]) -> Iterator[Colour]:
    for members in sources:
        yield _digest(*sorted(map(colour, members)))


def _readers(side: Structure, sources: Sequence[Sources]) -> list[list[tuple[int, str]]]:
    """Return the layers that are computed from each layer, and as which parts."""
    readers: list[list[tuple[int, str]]] = [[] for _ in side.layers]
    for reader, parts in enumerate(sources):
        for number, members in enumerate(parts):
            for member in members:
                if member >= 0:
                    readers[member].append((reader, str(number)))
    return readers


def _ends(view: View, side: Structure) -> list[str]:
    """Return for each layer which outputs, and which of their parts, it is the last layer of."""
    ends: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, sources in enumerate(side.outputs):
        for part, members in enumerate(view.parts(sources)):
            for member in members:
                ends[member].append((number, part))
    return [repr(ends.get(index, "")) for index in range(len(side.layers))]


def _classes(colours: list[Colours]) -> list[tuple[list[int], list[int]]]:
    classes: dict[Colour, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for place, each in enumerate(colours):
        for index, colour in enumerate(each):
            classes[colour][place].append(index)
    return list(classes.values())


def ancestry(side: Structure) -> list[Colour]:
    """Return what each layer is and what it is computed from, down to the inputs, as a colour."""
    view = VIEWS[-1]
    colours: list[Colour] = []
    for layer in side.layers:
        sources = _parts(
            view.parts(layer.sources),
            lambda member: colours[member] if member >= 0 else str(member).encode(),
        )
        colours.append(_digest(view.key(layer), *sources))
    return colours


def _digest(*parts: Colour | str) -> Colour:
    """Return a hash that is the same in every run, unlike Python's."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return state.digest()
