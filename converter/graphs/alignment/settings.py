"""Compares the settings of aligned networks: what no parameter shows, such as eps, strides and slopes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.graphs.alignment.reduction import GLOBAL_POOL, POOLS
from converter.graphs.alignment.structure import every

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.graphs.alignment.structure import AlignedLayer, AlignedStep, Setting, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDifference:
    """A setting that differs.

    Attributes:
        source: the node of the graph.
        target: the layer of the module.
        owner: the module whose call has the setting.
        setting: its name in PyTorch; "" if one side lacks the operation.
        expected: its value in the graph, None without the operation.
        found: its value in the module, None without the operation.
        kind: the operation.
    """

    source: str
    target: str
    owner: str
    setting: str
    expected: Setting | None
    found: Setting | None
    kind: str

    def __str__(self) -> str:
        if not self.setting:
            one, other = ("the graph", "the module") if self.found is None else ("the module", "the graph")
            return f"{self.source or self.target}: {one} has this {self.kind}, {other} does not"
        values = f"{self.setting} {self.expected} in the graph, {self.found} in the module"
        return f"{self.source} → {self.target}: {values}"


def compare(graph: Structure, module: Structure, pairs: Mapping[int, int]) -> tuple[SettingDifference, ...]:
    """Return the settings that differ, those of layers first.

    Args:
        graph: the structure of the graph.
        module: that of the module.
        pairs: the module's layer of each layer of the graph.
    """
    layers = ((graph.layers[one], module.layers[other]) for one, other in pairs.items())
    found = [each for pair in layers for each in _of(*pair)]
    theirs = _by_place(module.steps, {index: index for index in range(len(module.layers))})
    ours = _by_place(graph.steps, pairs)
    for kind, place in {**ours, **theirs}:
        # A pool of the whole image is an average pool there, and a global one here.
        if kind == GLOBAL_POOL or (kind == POOLS["avg"] and {*ours, *theirs} & {(GLOBAL_POOL, place)}):
            continue
        found += _of_steps(ours.get((kind, place), []), theirs.get((kind, place), []))
    return tuple(found)


def _of(one: AlignedLayer | AlignedStep, other: AlignedLayer | AlignedStep) -> Iterator[SettingDifference]:
    for name, expected in one.settings.items():
        actual = other.settings.get(name)
        if actual is not None and actual != expected:
            yield SettingDifference(
                source=one.name,
                target=other.name,
                owner=other.owner,
                setting=name,
                expected=expected,
                found=actual,
                kind=one.kind,
            )


def _by_place(
    steps: Sequence[AlignedStep], pairs: Mapping[int, int]
) -> dict[tuple[str, frozenset[int]], list[AlignedStep]]:
    """Return the operations of each kind by what they are computed from, in the module's numbers."""
    places: dict[tuple[str, frozenset[int]], list[AlignedStep]] = defaultdict(list)
    for step in steps:
        members = every([step.sources])
        places[step.kind, frozenset(pairs[each] if each >= 0 else each for each in members)].append(step)
    return places


def _of_steps(ours: Sequence[AlignedStep], theirs: Sequence[AlignedStep]) -> Iterator[SettingDifference]:
    """Compare operations after the same layers; one that a side lacks may be written in another way."""
    if len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from _of(one, other)
        return
    for step in ours[len(theirs) :]:
        yield SettingDifference(
            source=step.name, target="", owner="", setting="", expected=True, found=None, kind=step.kind
        )
    for step in theirs[len(ours) :]:
        yield SettingDifference(
            source="", target=step.name, owner="", setting="", expected=None, found=True, kind=step.kind
        )
