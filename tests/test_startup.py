"""Help texts import none of the heavy modules, so that they appear immediately."""

from __future__ import annotations

import subprocess
import sys

import pytest

from converter.cli.app import app

# Slow to import, and imported only when a command runs.
HEAVY = {
    "PIL",
    "altair",
    "cv2",
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
    """Return the heavy modules that a program has imported by its end."""
    command = [sys.executable, "-c", PROGRAM.format(name=name), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return HEAVY & set(done.stderr.split())


def test_convert_help_imports_no_heavy_module() -> None:
    assert imported_by("convert_app", "--help") == set()


@pytest.mark.parametrize("command", ["", *(command.name for command in app.registered_commands)])
def test_command_help_imports_no_heavy_module(command: str) -> None:
    assert imported_by("app", *filter(None, [command]), "--help") == set()


def test_heavy_imports_are_detected() -> None:
    assert imported_by("app", "list") == {"msgspec", "tomllib"}
