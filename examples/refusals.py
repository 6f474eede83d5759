"""End a program on wrong input with one line instead of a traceback, once for all processes of a machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from typing import TYPE_CHECKING, NoReturn

from converter import ConversionError
from resnext_torch import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 10.0  # seconds in which the launcher ends the other processes


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, after the message without the usage."""
        wait_for_first()
        self.exit(2, f"{self.prog}: error: {message}\n")


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Exit with 1 and the message of an error about the input.

    Raises:
        SystemExit: in place of the error.
    """
    try:
        yield
    except (ConversionError, WeightsError) as error:
        wait_for_first()
        raise SystemExit(str(error)) from error
    except SystemExit as error:
        if isinstance(error.code, str):  # otherwise it has been printed
            wait_for_first()
        raise


def wait_for_first() -> None:
    """Wait in all processes but the first one, whose exit makes the launcher end the others."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(GRACE)
