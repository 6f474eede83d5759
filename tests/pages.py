"""Run the commands and programs of a page in this process: an import of torch takes seconds."""

from __future__ import annotations

import contextlib
import io
import shlex
from typing import Any

from typer.testing import CliRunner

from converter.cli.app import app, convert_app

PROGRAMS = {"convert": convert_app, "gluon2torch": app}


def run_command(line: str) -> str:
    """Run a line of a shell in the current folder, and return its standard output."""
    program, *words = shlex.split(line)
    result = CliRunner().invoke(PROGRAMS[program], words)
    assert result.exit_code == 0, f"{line}\n{result.output}{result.exception!r}"
    return result.stdout


def run_python(text: str, variables: dict[str, Any] | None = None) -> str:
    """Run a program, by default with no variables of earlier ones, and return its standard output."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(text, variables or {"__name__": "__main__"})  # noqa: S102 - our own pages
    return printed.getvalue()
