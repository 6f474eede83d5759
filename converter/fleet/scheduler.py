"""Connects to a Dask scheduler, whose workers then convert."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from converter.errors import ProcessesError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

CONNECTION_SECONDS = 10
MIN_JOBS = 32  # workers may join later
AHEAD = 2  # per thread of a worker: one that is done need not wait for us


@contextlib.contextmanager
def connect(address: str) -> Iterator[tuple[Executor, int]]:
    """Provide an executor of a scheduler's workers, and the number of conversions to submit at a time.

    Raises:
        ProcessesError: if Dask is not installed, or nothing answers at the address.
    """
    try:
        from distributed import Client  # noqa: PLC0415 - of the extra `fleet`
    except ImportError as error:
        raise ProcessesError(
            'a scheduler needs distributed, which cannot be found\n  try  pip install "gluon2torch[fleet]"'
        ) from error
    try:
        client = Client(address, timeout=CONNECTION_SECONDS)
    except (OSError, ValueError) as error:
        raise ProcessesError(f"{address}: no scheduler answers: {error}") from error
    with client:
        yield client.get_executor(), max(MIN_JOBS, AHEAD * sum(client.nthreads().values()))
