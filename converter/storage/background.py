"""Work beside the main thread, for which the end of the program does not wait."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def start(function: Callable[[], T]) -> Future[T]:
    """Call a function in a thread of its own; return what will have its result, or raise what it raised."""
    future: Future[T] = Future()

    def settle() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=settle, daemon=True).start()
    return future
