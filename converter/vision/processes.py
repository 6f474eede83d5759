"""Share work among the processes of torchrun, if torchrun started this one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from converter.errors import ProcessesError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = timedelta(days=1)  # maximum wait for a slower process


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """The number of this process, from 0, and the number of processes."""

    rank: int
    world_size: int


@contextlib.contextmanager
def process_group() -> Iterator[ProcessRank]:
    """Join the process group, over gloo: the processes exchange only a few numbers."""
    from torch import distributed  # noqa: PLC0415 - takes more than a second

    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ProcessRank(0, 1)
        return
    distributed.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield ProcessRank(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def sum_counts(counts: list[int], process: ProcessRank) -> list[int]:
    """Return the sum of each count over all processes; wait until all have called this.

    Raises:
        ProcessesError: if another process has stopped.
    """
    if process.world_size == 1:
        return counts
    import torch  # noqa: PLC0415 - as above
    from torch import distributed  # noqa: PLC0415 - as above

    sums = torch.tensor(counts)
    try:
        distributed.all_reduce(sums)
    except RuntimeError as error:
        raise ProcessesError("another process stopped before it had evaluated its images") from error
    totals: list[int] = sums.tolist()
    return totals
