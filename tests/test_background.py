"""Background work: callers that need the result wait for it, others do not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from records import ENCODED

from converter.storage import background

if TYPE_CHECKING:
    from pathlib import Path


def test_result_is_awaited() -> None:
    assert background.start(lambda: 3).result(10) == 3


def test_exception_is_raised_when_the_result_is_requested() -> None:
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: 1 // 0).result(10)


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
def test_refusal_does_not_wait_for_the_hash_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large.params"
    path.write_bytes(ENCODED["V2"])
    os.truncate(path, 1 << 38)  # a size that takes minutes to hash
    command = [sys.executable, "-P", "-m", "converter", "convert", "auto", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--params", str(path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "bytes after the end of the list" in done.stderr
