"""The file of a generated module can be imported, and hides no other module."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from converter.graphs.codegen.module_name import module_name

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = ("-symbol.json", ".json")
NAMES = {
    "resnet50_v1-symbol.json": "resnet50_v1",
    "face net.json": "face_net",
    "torch-symbol.json": "torch_network",
    "Torch.json": "Torch_network",
    "json.json": "json_network",
    "random-symbol.json": "random_network",
    "numpy-symbol.json": "numpy_network",
    "class-symbol.json": "class_network",
    "None.json": "None_network",
    "CON.json": "CON_network",
    "lpt1-symbol.json": "lpt1_network",
    "101-symbol.json": "network_101",
    "../../x-symbol.json": "x",
    "-symbol.json": "network",
    "__init__.json": "init",
    "\udcff\0.json": "network",
}


@pytest.mark.parametrize(("file", "name"), [*NAMES.items(), ("x" * 500, "x" * 100)])
def test_name_is_an_identifier(file: str, name: str) -> None:
    assert module_name(file, SUFFIXES) == name
    ast.parse(f"import {name}")


@pytest.mark.parametrize(("name", "works"), [("json", False), (module_name("json.json", SUFFIXES), True)])
def test_other_modules_are_imported_next_to_a_module(name: str, works: bool, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").touch()
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import json; json.loads"]
    assert (subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0) == works
