"""The commands and the program of docs/tutorial.md run, in order, and print what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def pattern(shown: str) -> str:
    """Return a regular expression for an output; an ellipsis stands for any text."""
    return ".*".join(map(re.escape, shown.rstrip().split("…")))


def run(line: str, folder: Path) -> str:
    """Run a line of the page with this interpreter; return its output."""
    program, *words = shlex.split(line)
    arguments = ["convert", *words] if program == "convert" else words
    command = [sys.executable, "-P", "-m", "converter", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tutorial_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    commands = 0
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            done = subprocess.check_output([sys.executable, "-P", "-c", text], cwd=tmp_path, text=True)
            assert done == "torch.Size([1, 1000])\n"
        for line, shown in COMMAND.findall(text) if language == "console" else []:
            printed = run(line, tmp_path)
            assert re.fullmatch(pattern(shown), printed.rstrip(), re.DOTALL), printed
            commands += 1
    assert commands == 6
    assert (tmp_path / "published" / "model.safetensors").exists()


@pytest.mark.parametrize(("printed", "fits"), [("wrote a: 1\nb", True), ("read a: 1\nb", False)])
def test_ellipsis_stands_for_any_text(printed: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(pattern("wrote …: 1\n…\n"), printed, re.DOTALL)) == fits
