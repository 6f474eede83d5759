"""Chooses cases of a long list for a run: one of each group, and the others in turn, by the day."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DAYS = 16  # after which every case has had its turn


def chosen(names: Iterable[str], group: Callable[[str], object], day: int | None = None) -> list[str]:
    """Return one name of each group, and a sixteenth of the others; all with GRAPH_ZOO=all.

    The shortest name stands for its group; it is mostly the smallest network's: resnet18, not resnet101.

    Args:
        names: the names.
        group: returns the group of a name.
        day: its number, by default today's.
    """
    names = [*names]
    if os.environ.get("GRAPH_ZOO") == "all":
        return names
    by_length = sorted(names, key=lambda name: (len(name), name), reverse=True)
    firsts = {group(name): name for name in by_length}.values()
    others = [name for name in names if name not in firsts]
    today = datetime.now(UTC).toordinal() if day is None else day
    picked = {*firsts, *others[today % DAYS :: DAYS]}
    return [name for name in names if name in picked]
