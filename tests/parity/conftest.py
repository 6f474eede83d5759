from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def gluon_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``.params`` files that GluonCV wrote; gluon_files.py lists them."""
    folder = tmp_path_factory.mktemp("gluon")
    subprocess.check_call([sys.executable, Path(__file__).with_name("gluon_files.py"), folder])
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
