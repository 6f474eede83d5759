"""The cells of docs/quickstart.ipynb run in order, and the notebook is stored without outputs."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pages
import pytest

ROOT = Path(__file__).parents[1]
CELLS: list[dict[str, Any]] = json.loads((ROOT / "docs/quickstart.ipynb").read_text(encoding="utf-8"))[
    "cells"
]
PRINTED = """\
gluon_cifar_resnext29_32x4d: blocks 3-3-3, cardinality 32, width 4, 10 classes
gluon_cifar_resnext29_32x4d-9fbe8d13.safetensors
73 layers agree to {} in float32
73 layers agree to {} in float64
True
True
torch.Size([1, 10])
True
"""


def test_cells_run_in_the_folder_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    output = pages.run_python(program)
    printed, expected = output.splitlines(), PRINTED.splitlines()
    assert len(printed) == len(expected), output
    for line, shown in zip(printed, expected, strict=True):
        start, _, end = shown.partition("{}")
        assert line.startswith(start)
        assert line.endswith(end)


def test_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(cells) == 6
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


def test_page_of_the_site_shows_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("hooks").notebook_page()
    assert page.startswith("# Quickstart\n")
    assert page.count("```python\n") == 6
    assert all("".join(cell["source"]) in page for cell in CELLS)
