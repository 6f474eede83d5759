"""The entry points of the `convert` and `gluon2torch` commands; ``python -m converter`` is the latter.

Other modules are imported after signals are handled, so that Ctrl-C during the import shows no traceback.
"""

from __future__ import annotations

import os
from typing import NoReturn

from converter.cli import signals


def convert() -> NoReturn:
    """Run the `convert` command."""
    _begin()
    from converter.cli import app, console  # noqa: PLC0415 - after signals are handled

    console.run(app.convert_app, "convert")


def gluon2torch() -> NoReturn:
    """Run the `gluon2torch` command."""
    _begin()
    from converter.cli import app, console  # noqa: PLC0415 - as above

    console.run(app.app, "gluon2torch")


def _begin() -> None:
    """Handle signals, and open closed standard streams, whose descriptors our files would get otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    signals.exit_at_once()


if __name__ == "__main__":
    gluon2torch()
