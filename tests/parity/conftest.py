from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


WRITER = Path(__file__).with_name("gluon_files.py")


@pytest.fixture(scope="session")
def gluon_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of ``.params`` files written by GluonCV: those in gluon_files.py, and resnext50."""
    folder = tmp_path_factory.mktemp("gluon")
    subprocess.check_call([sys.executable, WRITER, folder])
    subprocess.check_call([sys.executable, WRITER, folder, "gluon_resnext50_32x4d"])
    return folder


@pytest.fixture
def gluon_params(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Yield a function that writes a model's ``.params`` with GluonCV; all of them take 5 GB."""

    def write(name: str) -> Path:
        subprocess.check_call([sys.executable, WRITER, tmp_path, name])
        return tmp_path / f"{name}.params"

    yield write
    for path in tmp_path.glob("*.params"):
        path.unlink()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
