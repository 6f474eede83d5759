"""Help texts import none of the heavy modules, so that they appear immediately."""

from __future__ import annotations

import json
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
import json, sys
from typer.testing import CliRunner
before = {}
from converter.cli.app import app, convert_app
for name, *arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(globals()[name], arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    print(json.dumps([*sys.modules.keys() - before]))
    before = {*sys.modules}
"""
COMMANDS = ["", *(command.name for command in app.registered_commands)]
IMPORTING = ("app", "list")


@pytest.fixture(scope="module")
def imported() -> dict[tuple[str, ...], set[str]]:
    """Return the heavy modules that each command imports and no earlier one has, in a new process."""
    lines = [("convert_app", "--help"), *(("app", *filter(None, [name]), "--help") for name in COMMANDS)]
    lines.append(IMPORTING)
    done = subprocess.check_output([sys.executable, "-c", PROGRAM, json.dumps(lines)], text=True)
    modules = [HEAVY & set(json.loads(line)) for line in done.splitlines()]
    return dict(zip(lines, modules, strict=True))


def test_convert_help_imports_no_heavy_module(imported: dict[tuple[str, ...], set[str]]) -> None:
    assert imported["convert_app", "--help"] == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help_imports_no_heavy_module(
    command: str, imported: dict[tuple[str, ...], set[str]]
) -> None:
    assert imported["app", *filter(None, [command]), "--help"] == set()


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


def test_heavy_imports_are_detected(imported: dict[tuple[str, ...], set[str]]) -> None:
    assert imported[IMPORTING] == {"msgspec", "tomllib"}
