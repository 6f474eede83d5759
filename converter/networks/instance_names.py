"""Match the prefix names of two instances of a network, which Gluon numbers differently.

Gluon names a layer after the layers that contain it, and numbers those of a kind in the order of their
creation: ``mobilenet0_conv3_weight``. In another instance the numbers may begin later, the first part may be
another one or absent, and a replaced head may have a name of its own, ``dense1_weight``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter import names
from converter.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Sequence

PART = re.compile(r"(.*?)([0-9]{1,9})")

Part = tuple[str, int]  # a part of a name: a kind of layer, and its number, -1 without one
Place = tuple[Part, ...]  # a name whose numbers are replaced by their ranks among the layers of a kind


@dataclass(frozen=True, slots=True)
class _Instance:
    """The names of an instance.

    Attributes:
        by_place: the names by place, in their order.
        numbers: the numbers of each kind of layer, by the place of the layer that contains them.
    """

    by_place: dict[Place, str]
    numbers: dict[tuple[Place, str], list[int]]


def match(expected: Sequence[str], found: Sequence[str], file: str) -> dict[str, str]:
    """Return the expected name of each name in a file.

    Args:
        expected: the names in one instance of the network, in its order.
        found: the names in the file, those of another instance.
        file: the file, for messages.

    Raises:
        MappingError: if the names are not those of the same layers, or if the numbers do not determine the
            order of the layers and the file is not in the network's order.
    """
    known = _read(expected)
    for head in ([], _outside(found)):
        inside = [name for name in found if name not in head]
        body = _read(inside)
        if len(body.by_place) < len(inside):  # two names of one layer, such as conv0 and conv00
            continue
        replaced = {_role(name): name for place, name in known.by_place.items() if place not in body.by_place}
        if body.by_place.keys() <= known.by_place.keys() and sorted(map(_role, head)) == sorted(replaced):
            matched = {name: known.by_place[place] for place, name in body.by_place.items()}
            matched |= {name: replaced[_role(name)] for name in head}
            if len(matched) == len(expected):
                is_head = {*replaced.values()} == {*expected[len(expected) - len(head) :]}
                in_order = [matched[name] for name in found] == [*expected]
                _require_certain(known, body, file, in_order=in_order, head=None if is_head else head)
                return matched
    raise MappingError(
        f"{file}: the names are not those of the network's layers\n"
        f"  expected  {len(expected)} names such as {expected[0]}\n"
        f"  found     {len(found)} names such as {names.printable(names.clipped(next(iter(found), 'none')))}"
    )


def _read(every_name: Sequence[str]) -> _Instance:
    """Return names by place, without the parts that all begin with."""
    split = [tuple(_part(text) for text in name.split("_")) for name in every_name]
    common = 0
    while split and all(
        len(parts) > common + 1 and parts[: common + 1] == split[0][: common + 1] for parts in split
    ):
        common += 1
    split = [parts[common:] for parts in split]
    numbers: dict[tuple[Place, str], set[int]] = {}
    for parts in split:
        for depth, (kind, number) in enumerate(parts):
            numbers.setdefault((parts[:depth], kind), set()).add(number)
    ranks = {
        (*outer, (kind, number)): rank
        for (outer, kind), each in numbers.items()
        for rank, number in enumerate(sorted(each))
    }
    place = {
        outer: tuple((part[0], ranks[outer[: depth + 1]]) for depth, part in enumerate(outer))
        for outer in ranks
    }
    return _Instance(
        {place[parts]: name for parts, name in zip(split, every_name, strict=True)},
        {(place.get(outer, ()), kind): sorted(each) for (outer, kind), each in numbers.items()},
    )


def _part(text: str) -> Part:
    match = PART.fullmatch(text)
    return (match[1], int(match[2])) if match else (text, -1)


def _outside(every_name: Sequence[str]) -> list[str]:
    """Return the names that begin with another part than most: those of a layer made outside the network."""
    firsts = Counter(name.partition("_")[0] for name in every_name)
    usual = max(firsts, key=firsts.__getitem__, default="")
    return [name for name in every_name if name.partition("_")[0] != usual]


def _role(name: str) -> str:
    """Return the last part of a name, such as ``weight``."""
    return name.rpartition("_")[2]


def _require_certain(
    expected: _Instance, found: _Instance, file: str, *, in_order: bool, head: Sequence[str] | None
) -> None:
    """Check that the numbers determine the order of the layers, or that the file is in the network's order.

    A replaced layer gets the next free number, and leaves a gap.

    Args:
        expected: the names in a new network.
        found: the names in the file.
        file: the file, for messages.
        in_order: whether the file is in the network's order.
        head: the names of a replaced layer that is not the last one, None without one.

    Raises:
        MappingError: if not.
    """
    uncertain = [
        f"{'_'.join(f'{kind}{rank}' for kind, rank in place)}_{kind}: {numbers}"
        for (place, kind), numbers in found.numbers.items()
        if numbers != expected.numbers[place, kind] and len(expected.numbers[place, kind]) > 1
    ]
    uncertain += head or ()
    if uncertain and not in_order:
        headline = (
            f"{file}: the numbers of layers differ from those of a new network, and the file is not in the "
            "network's order, so the layers cannot be identified"
        )
        lines = [headline, *names.shorten(uncertain), "save the network with net.save_parameters"]
        raise MappingError("\n  ".join(lines))
