"""What the documentation tells people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from converter.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("docs/**/*.yml")),
]
LINES = [
    (page.name, line.strip())
    for page in PAGES
    for line in page.read_text(encoding="utf-8").splitlines()
    if re.match(r"(- run:|\$)? ?(gluon2torch|convert) [a-z_]", line.strip())
]
COMMANDS = get_command(app)


def options(line: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", line))


def known(command: str) -> set[str]:
    """Return every option that a command takes."""
    assert isinstance(COMMANDS, typer.core.TyperGroup)
    found = COMMANDS.commands[command]
    return {option for parameter in found.params for option in parameter.opts}


def test_there_are_lines_to_check() -> None:
    assert {page for page, _ in LINES} >= {"README.md", "parity.md", "parity.yml"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_option_that_is_shown_exists(page: str, line: str) -> None:
    words = re.sub(r"^(- run:|\$) ", "", line).split()
    command = words[1] if words[0] == "gluon2torch" else "convert"
    assert options(line) <= known(command), page


def test_an_option_that_does_not_exist_is_seen() -> None:
    assert not options("gluon2torch parity NAME --frobnicate") <= known("parity")
