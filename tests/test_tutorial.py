"""The commands and the program of docs/tutorial.md run, in order, and print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAGE = (Path(__file__).parents[1] / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def pattern(shown: str) -> str:
    """Return a regular expression for an output; an ellipsis stands for any text."""
    return ".*".join(map(re.escape, shown.rstrip().split("…")))


def test_tutorial_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            assert pages.run_python(text) == "torch.Size([1, 1000])\n"
        for line, shown in COMMAND.findall(text) if language == "console" else []:
            printed = pages.run_command(line)
            assert re.fullmatch(pattern(shown), printed.rstrip(), re.DOTALL), printed
            commands += 1
    assert commands == 6
    assert (tmp_path / "published" / "model.safetensors").exists()


@pytest.mark.parametrize(("printed", "fits"), [("wrote a: 1\nb", True), ("read a: 1\nb", False)])
def test_ellipsis_stands_for_any_text(printed: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(pattern("wrote …: 1\n…\n"), printed, re.DOTALL)) == fits


def test_failing_command_and_program_are_detected(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No such file or directory"):
        pages.run_command(f"gluon2torch verify {tmp_path}/missing")
    with pytest.raises(NameError, match="torch"):
        pages.run_python("print(torch.zeros(1))")
