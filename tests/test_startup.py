"""What a command imports before it has anything to do: `--help` comes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from converter.cli.app import app

# What takes long to import, and is imported when a command runs.
HEAVY = {
    "PIL",
    "altair",
    "cv2",
    "filelock",
    "huggingface_hub",
    "jinja2",
    "ml_dtypes",
    "model_signing",
    "msgspec",
    "numpy",
    "requests",
    "safetensors",
    "tomllib",
    "torch",
    "torchvision",
    "urllib3",
    "vl_convert",
}
PROGRAM = """
import sys
from converter.cli.app import app, convert_app
try:
    {name}(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported_by(name: str, *arguments: str) -> set[str]:
    """Return the heavy modules that a program has imported when it ends."""
    command = [sys.executable, "-c", PROGRAM.format(name=name), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return HEAVY & set(done.stderr.split())


def test_the_help_of_convert_imports_nothing_that_a_conversion_needs() -> None:
    assert imported_by("convert_app", "--help") == set()


@pytest.mark.parametrize("command", ["", *(command.name for command in app.registered_commands)])
def test_no_commands_help_imports_what_the_command_needs(command: str) -> None:
    assert imported_by("app", *filter(None, [command]), "--help") == set()


def test_a_program_that_does_import_them_is_seen() -> None:
    assert imported_by("app", "list") == {"msgspec", "tomllib"}
