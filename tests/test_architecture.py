"""Imports run one way: the contracts in pyproject.toml hold, and a wrong import breaks them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("converter", "resnext_torch")
LINTER = Path(sys.executable).with_name("lint-imports")
MAX_LOOSE_MODULES = 8
RESNEXT_TORCH_IMPORTERS = {
    "commands/folder_inspection.py",
    "commands/inspection_verdict.py",
    "commands/listing.py",
    "commands/pretrained.py",
    "networks/unknown_names.py",
    "networks/hub_configuration.py",
    "networks/hub_source.py",
    *(f"networks/{name}.py" for name in ("catalog", "definition", "detection", "figures", "graph_search")),
    *(f"networks/{name}.py" for name in ("matching", "synthetic", "wrappings", "zoo")),
    "commands/verification.py",
    "exports/onnx_cache.py",
    "formats/weights_folder.py",
    "manifests/converted_file.py",
    "parity/execution.py",
    "publishing/card.py",
    "publishing/timm_config.py",
    "vision/class_lists.py",
    "vision/classifier.py",
    "vision/gluoncv_inputs.py",
    "vision/graph_network.py",
    "vision/graph_prediction.py",
    "vision/placement.py",
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINTER, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the packages and their contracts."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_import_contracts_hold(copy: Path) -> None:
    completed = lint(copy)
    assert completed.returncode == 0, completed.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("converter/storage/disk.py", "from converter.formats import params"),
        ("converter/parity/result.py", "def late():\n    from converter.commands import conversion"),
        ("converter/formats/params.py", "if False:\n    from converter.networks import catalog"),
        ("converter/errors.py", "from . import cli"),
        ("converter/graphs/reader.py", "import torch"),
        ("converter/sources/partial.py", "def late():\n    import mxnet"),
        ("resnext_torch/config.py", "from converter import errors"),
        ("converter/extra/__init__.py", ""),
    ],
)
def test_wrong_import_or_unlisted_package_breaks_a_contract(module: str, line: str, copy: Path) -> None:
    path = copy / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as stream:
        stream.write(f"\n{line}\n")
    completed = lint(copy)
    assert completed.returncode == 1, completed.stdout


def test_few_modules_are_outside_the_packages() -> None:
    assert len(list((ROOT / "converter").glob("*.py"))) <= MAX_LOOSE_MODULES


def test_no_two_types_have_one_name() -> None:
    names = [
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_only_listed_modules_import_resnext_torch() -> None:
    folder = ROOT / "converter"
    importing = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "\nfrom resnext_torch" in path.read_text() or "\n    from resnext_torch" in path.read_text()
    }
    assert importing == RESNEXT_TORCH_IMPORTERS
