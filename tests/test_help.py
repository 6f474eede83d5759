"""The help of every command: its texts as they are written, and flags without a type."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from typer.testing import CliRunner
from typer.utils import get_params_from_function

from converter.cli import app
from converter.cli.plain_help import Command
from converter.targets import adaptation

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = [("convert", app.convert_app, []), *((name, app.app, [name]) for name in app.COMMANDS)]


def normalized(text: str) -> str:
    """Return a text without line breaks and frames."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def printed_help(program: typer.Typer, *arguments: str, columns: int = 500) -> str:
    result = CliRunner().invoke(program, [*arguments, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return normalized(result.stdout)


def texts(function: Callable[..., object]) -> list[str]:
    """Return the paragraphs of a command's help and the help of its parameters."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    parameters = get_params_from_function(function).values()
    return [*paragraphs, *(parameter.default.help for parameter in parameters)]


@pytest.mark.parametrize(("name", "program", "arguments"), PROGRAMS)
def test_help_shows_every_text_as_written(name: str, program: typer.Typer, arguments: list[str]) -> None:
    text = printed_help(program, *arguments)
    missing = [each for each in texts(app.COMMANDS[name]) if normalized(each) not in text]
    assert missing == []


@pytest.mark.parametrize(("name", "program", "arguments"), [*PROGRAMS, ("gluon2torch", app.app, [])])
def test_flags_show_no_type(name: str, program: typer.Typer, arguments: list[str]) -> None:
    assert "<bool>" not in printed_help(program, *arguments), name


def test_help_of_adapt_names_every_setting() -> None:
    settings = ("eps", "slopes", "strides", "paddings", "dilations", "kernel sizes", "ceil_mode")
    assert len(settings) == len(adaptation.ADAPTED)
    text = printed_help(app.convert_app).partition("--adapt ")[2].partition(" --mapping ")[0]
    assert [each for each in settings if each not in text] == []


def bracketed(*, sign: Annotated[bool, typer.Option("--sign", help="needs pip [sign]")] = False) -> None:
    """Take [red] literally."""
    raise AssertionError(sign)


def test_brackets_are_kept_only_by_our_commands() -> None:
    kept, swallowed = typer.Typer(), typer.Typer()
    kept.command(cls=Command)(bracketed)
    swallowed.command()(bracketed)
    assert "Take [red] literally." in printed_help(kept)
    assert "needs pip [sign]" in printed_help(kept)
    assert "[sign]" not in printed_help(swallowed)
    assert "<bool>" in printed_help(swallowed)
