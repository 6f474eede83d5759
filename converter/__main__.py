"""The two programs, from their first moment: ``python -m converter`` is the `gluon2torch` command.

What they need is imported here and not above, so that a signal meanwhile ends them without a traceback.
"""

from __future__ import annotations

import os
from typing import NoReturn

from converter.cli import signals


def convert() -> NoReturn:
    """Run the `convert` command."""
    _begin()
    from converter.cli import app, console  # noqa: PLC0415 - half a second, in which a signal may come

    console.run(app.convert_app, "convert")


def gluon2torch() -> NoReturn:
    """Run the `gluon2torch` command."""
    _begin()
    from converter.cli import app, console  # noqa: PLC0415 - as above

    console.run(app.app, "gluon2torch")


def _begin() -> None:
    """Occupy the streams that are closed, lest a file of ours become stdout, and be ready for signals."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    signals.leave()


if __name__ == "__main__":
    gluon2torch()
