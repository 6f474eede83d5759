"""Help texts import none of the heavy modules, so that they appear immediately."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from converter.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

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


def test_pytest_plugin_imports_no_heavy_module(tmp_path: Path) -> None:
    program = "import sys, pytest; pytest.main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", program, "-p", "converter.testing.plugin", "--markers"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path)
    imported = set(done.stderr.split())
    assert "converter.testing.plugin" in imported
    assert HEAVY & imported <= {"tomllib"}  # pytest's own
    assert not {"converter.commands", "converter.parity", "rich", "typer"} & imported
    assert "@pytest.mark.gluon_parity(name, params=None, weights=None, **options): " in done.stdout


def test_heavy_imports_are_detected() -> None:
    assert imported_by("app", "list") == {"msgspec", "tomllib"}
