"""What is done beside the main thread is waited for by whoever asks, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from records import WHOLE

from converter.storage import background

if TYPE_CHECKING:
    from pathlib import Path


def test_a_result_is_waited_for() -> None:
    assert background.start(lambda: 3).result(10) == 3


def test_what_is_raised_is_raised_where_the_result_is_asked_for() -> None:
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: 1 // 0).result(10)


@pytest.mark.skipif(sys.platform == "win32", reason="a hole takes room there")
def test_a_refusal_does_not_wait_until_a_large_file_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "large.params"
    path.write_bytes(WHOLE["V2"])
    os.truncate(path, 1 << 38)  # which takes minutes to hash
    command = [sys.executable, "-P", "-m", "converter", "convert", "auto", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--params", str(path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "bytes after the end of the list" in done.stderr
