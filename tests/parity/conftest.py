from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet_forks
import pytest

from converter.references import child_process

if TYPE_CHECKING:
    from collections.abc import Iterator


WRITER = Path(__file__).with_name("gluon_files.py")


@pytest.fixture(scope="session", autouse=True)
def forked_children() -> Iterator[None]:
    """Run MXNet in forks of one process of its own: its import takes three seconds."""
    mxnet_forks.start_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_process, "start", mxnet_forks.start_child)
        yield


@pytest.fixture(scope="session")
def gluon_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of ``.params`` files written by GluonCV: those in gluon_files.py, and resnext50.

    The first worker of pytest-xdist that needs it writes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, draft = shared / "gluon", shared / "gluon.part"
    with (shared / "gluon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(draft, ignore_errors=True)  # of a worker that failed
            draft.mkdir()
            mxnet_forks.run(WRITER, draft)
            mxnet_forks.run(WRITER, draft, "gluon_resnext50_32x4d")
            draft.rename(folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
