"""The commands and options shown in the documentation exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from converter.cli.app import app
from converter.graphs import operators
from converter.networks import families

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def code(page: Path) -> str:
    """Return the code blocks of a page."""
    return "".join(FENCED.findall(page.read_text(encoding="utf-8")))


LINES = [
    (page.name, line.strip())
    for page in PAGES
    for line in code(page).splitlines()
    if re.match(r"\$? ?(gluon2torch|convert) [a-z_][^`]*$", line.strip())
]
COMMANDS = get_command(app)


def options(line: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", line))


def command_options(command: str) -> set[str]:
    """Return every option of a command."""
    assert isinstance(COMMANDS, typer.core.TyperGroup)
    command_object = COMMANDS.commands[command]
    return {option for parameter in command_object.params for option in parameter.opts}


def test_pages_contain_commands() -> None:
    assert {page for page, _ in LINES} >= {"README.md", "parity.md"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_documented_option_exists(page: str, line: str) -> None:
    words = line.removeprefix("$ ").split()
    command = words[1] if words[0] == "gluon2torch" else "convert"
    assert options(line) <= command_options(command), page


def test_unknown_option_is_detected() -> None:
    assert not options("gluon2torch parity NAME --frobnicate") <= command_options("parity")


def test_page_of_operators_lists_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("hooks").operator_tables()
    names = set(re.findall(r"`([^`]+)`", page))
    assert names >= {*operators.schemas(), *operators.REASONS}
    assert "| `Custom` | runs Python code that the graph does not contain |" in page


def test_page_of_networks_lists_every_family(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("hooks").network_tables()
    listed = re.findall(r"^\| [^|]+ \(`(\w+)`\) \|", page, re.MULTILINE)
    assert listed == [*families.families()]
    assert "| ResNet v1 (`resnet`) | 25 | 17 native, 5 generated, 3 not by name |" in page
