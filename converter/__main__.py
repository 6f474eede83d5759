"""The entry points of the `convert` and `gluon2torch` commands; ``python -m converter`` is the latter.

Other modules are imported after signals are handled, so that Ctrl-C during the import shows no traceback.
"""

from __future__ import annotations

from typing import NoReturn

from converter.cli import signals


def convert() -> NoReturn:
    """Run the `convert` command."""
    signals.exit_at_once()
    from converter.cli import app, console  # noqa: PLC0415 - after signals are handled

    console.run(app.convert_app, "convert")


def gluon2torch() -> NoReturn:
    """Run the `gluon2torch` command."""
    signals.exit_at_once()
    from converter.cli import app, console  # noqa: PLC0415 - as above

    console.run(app.app, "gluon2torch")


if __name__ == "__main__":
    gluon2torch()
