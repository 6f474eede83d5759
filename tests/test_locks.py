"""Temporary files: locked while in use, removed at exit, and swept once they are stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converter.errors import StorageError
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


# Creates a temporary file or folder, and ends without leaving its `with` statement.
EXITS = """\
import atexit, os, sys
from pathlib import Path
from converter.storage import disk
atexit.register(lambda: print(os.listdir(sys.argv[2])))  # runs last
manager = getattr(disk, sys.argv[1])(Path(sys.argv[2]))
print(len(os.listdir(manager.__enter__().parent)))
sys.exit(3)
"""


# Leaves the `with` statement, but a signal interrupts the removal of the folder.
INTERRUPTED = """\
import atexit, os, shutil, sys
from pathlib import Path
from converter.storage import disk
atexit.register(lambda: print(os.listdir(sys.argv[1])))  # runs last
rmtree = shutil.rmtree
calls = []
def interrupt(path):
    calls.append(path)
    if len(calls) == 1:
        raise KeyboardInterrupt
    rmtree(path)
shutil.rmtree = interrupt
try:
    with disk.temporary_folder(Path(sys.argv[1])):
        pass
except KeyboardInterrupt:
    print(len(os.listdir(sys.argv[1])))
"""


def start_holder(kind: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("kind", ["temporary", "temporary_folder"])
def test_locked_file_is_kept_until_its_process_is_killed(kind: str, tmp_path: Path) -> None:
    with start_holder(kind, tmp_path) as process:
        held = list(tmp_path.iterdir())
        assert len(held) == 1
        locks.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == held
        process.kill()
    assert list(tmp_path.iterdir()) == held
    locks.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["temporary", "temporary_folder"])
def test_exit_removes_temporary_files(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXITS, kind, tmp_path], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "1\n[]\n")


def test_interrupted_removal_is_repeated_at_exit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n[]\n")


def test_folder_is_swept_once(tmp_path: Path) -> None:
    with disk.temporary(tmp_path):
        pass
    (tmp_path / DEAD).touch()
    with disk.temporary(tmp_path):
        assert (tmp_path / DEAD).exists()
    locks.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lock_times_out(tmp_path: Path) -> None:
    with locks.held(tmp_path), pytest.raises(TimeoutError), locks.held(tmp_path, timeout=0):
        pass
    with locks.held(tmp_path, timeout=0):
        pass


def test_stale_folder_is_deleted_with_its_contents(tmp_path: Path) -> None:
    (tmp_path / DEAD / "deeper").mkdir(parents=True)
    (tmp_path / DEAD / "deeper" / "file").touch()
    with disk.temporary(tmp_path) as path:
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.part", ".convert-notes", f"{DEAD}.old", f"a{DEAD}", DEAD.upper()])
def test_other_names_are_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    locks.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to(path.parent), os.mkfifo],
    ids=["a link", "a pipe, which nobody waits for"],
)
def test_stale_link_or_pipe_is_harmless(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    make(tmp_path / DEAD)
    locks.sweep(tmp_path)
    assert (tmp_path / "precious").exists()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_kept(tmp_path: Path) -> None:
    (tmp_path / DEAD).touch()
    os.chown(tmp_path / DEAD, 65534, 65534)
    locks.sweep(tmp_path)
    assert (tmp_path / DEAD).exists()


def test_file_swept_before_it_is_locked_is_created_again(
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
def test_folder_that_cannot_hold_files_is_refused() -> None:
    with pytest.raises(StorageError, match="/proc/none: cannot be written: No such file or directory"):
        disk.require_writable(Path("/proc/none"))


def test_temp_dir_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with disk.temp_dir() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
