"""Missing permissions, tested as an unprivileged user: root is not restricted."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import faults
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = 65534
MODEL = "gluon_resnet18_v1b"


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command as an unprivileged user and returns exit status and output."""
    if sys.platform == "win32" or os.getuid():
        pytest.skip("only root can become another user")
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o777)
    temporary.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 1)  # pytest creates its folders without access for others

    def run(*arguments: str) -> tuple[int, str]:
        output = tmp_path / "said"
        status = faults.finish(faults.start(faults.command, arguments, temporary, output, NOBODY))
        return status, output.read_text()

    return run


@pytest.mark.parametrize("mode", [0o555, 0o666, 0o444])
def test_unwritable_folder_is_refused_before_any_work(
    as_nobody: Callable[..., tuple[int, str]], tmp_path: Path, mode: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(mode)
    status, output = as_nobody("convert", MODEL, str(out), "--params", str(tmp_path / "not-read-yet"))
    assert (status, output) == (1, f"refused  {out}: cannot be written: Permission denied\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", MODEL, "shut/out", "--random", "0"),
        ("convert-zoo", "shut/out", "--random", "0", "--models", MODEL),
        ("parity", MODEL, "--random", "0", "--report", "shut/out/report.html"),
    ],
)
def test_uncreatable_folder_is_refused_before_any_work(
    as_nobody: Callable[..., tuple[int, str]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "shut").mkdir(mode=0o755)
    within = [word.replace("shut", f"{tmp_path}/shut") for word in arguments]
    status, output = as_nobody(*within)
    assert (status, output) == (1, f"refused  {tmp_path}/shut/out: cannot be written: Permission denied\n")


def test_unreadable_source_is_refused(as_nobody: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    params = tmp_path / "holiday.params"
    params.touch(0o600)
    out = tmp_path / "temporary" / "out"
    status, output = as_nobody("convert", MODEL, str(out), "--params", str(params), "--reference", "none")
    assert status == 2  # refused by typer
    assert "is not readable" in " ".join(output.replace("│", " ").split())
    assert not out.exists()
