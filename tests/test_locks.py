"""Litter goes, and work in progress stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converter.errors import ArtifactError
from converter.storage import disk, locks

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")

DEAD = ".convert-0123456789abcdef.part"
# Makes something temporary, as a run does, and stays until it is killed.
HOLDER = """\
import sys, time
from pathlib import Path
from converter.storage import disk
with getattr(disk, sys.argv[1])(Path(sys.argv[2])):
    print(flush=True)
    time.sleep(60)
"""


def holder(kind: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("kind", ["temporary", "temporary_folder"])
def test_what_a_run_holds_stays_until_it_is_killed(kind: str, tmp_path: Path) -> None:
    with holder(kind, tmp_path) as process:
        held = list(tmp_path.iterdir())
        assert len(held) == 1
        locks.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == held
        process.kill()
    assert list(tmp_path.iterdir()) == held
    locks.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_dead_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / DEAD / "deeper").mkdir(parents=True)
    (tmp_path / DEAD / "deeper" / "file").touch()
    with disk.temporary(tmp_path) as path:
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.part", ".convert-notes", f"{DEAD}.old", f"a{DEAD}", DEAD.upper()])
def test_what_is_called_otherwise_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    locks.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to(path.parent), os.mkfifo],
    ids=["a link", "a pipe, which nobody waits for"],
)
def test_what_is_neither_file_nor_folder_harms_nobody(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    make(tmp_path / DEAD)
    locks.sweep(tmp_path)
    assert (tmp_path / "precious").exists()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_what_is_another_users_stays(tmp_path: Path) -> None:
    (tmp_path / DEAD).touch()
    os.chown(tmp_path / DEAD, 65534, 65534)
    locks.sweep(tmp_path)
    assert (tmp_path / DEAD).exists()


def test_a_name_that_is_swept_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    touch = Path.touch

    def touch_and_lose(path: Path, mode: int = 0o666) -> None:
        touch(path, mode)
        made.append(path)
        if len(made) == 1:
            path.unlink()

    monkeypatch.setattr(Path, "touch", touch_and_lose)
    with disk.temporary(tmp_path / "new") as path:
        assert path == made[1]
        assert path.exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_where_nothing_lasts_is_refused_in_the_end() -> None:
    with pytest.raises(ArtifactError, match="/proc/none: cannot be written: No such file or directory"):
        disk.require_writable(Path("/proc/none"))


def test_a_scratch_folder_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with disk.temp_dir() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
