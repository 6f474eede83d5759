"""The processes that torchrun started for one piece of work, if it did."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from converter.errors import ProcessesError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = timedelta(days=1)  # for a process that is slower than another


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """This process's number, from 0, and how many there are."""

    number: int
    count: int


@contextlib.contextmanager
def joined() -> Iterator[ProcessRank]:
    """Join the others, over gloo: what they tell each other are a few numbers."""
    from torch import distributed  # noqa: PLC0415 - takes more than a second

    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ProcessRank(0, 1)
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield ProcessRank(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def total(counts: list[int], place: ProcessRank) -> list[int]:
    """Return the sums of each number over all processes, when all have come to this.

    Errors: ``ProcessesError``.
    """
    if place.count == 1:
        return counts
    import torch  # noqa: PLC0415 - as above
    from torch import distributed  # noqa: PLC0415 - as above

    summed = torch.tensor(counts)
    try:
        distributed.all_reduce(summed)
    except RuntimeError as error:
        raise ProcessesError("another process stopped before it had counted its images") from error
    found: list[int] = summed.tolist()
    return found
