"""Commands whose help texts are printed as they are written."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command without markup in its help: brackets are kept, and flags show no type."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of TyperCommand
        super().__init__(*args, **options)
        _escape_help(self)

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - a context, whose type is private
        """Return the parameters, ``--help`` included."""
        return _without_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands without markup in its help, like ``Command``."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of TyperGroup
        super().__init__(*args, **options)
        _escape_help(self)

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - a context, whose type is private
        """Return the parameters, ``--help`` included."""
        return _without_flag_types(super().get_params(ctx))


def _escape_help(command: TyperCommand | TyperGroup) -> None:
    """Escape the brackets that rich would read as markup."""
    command.help = escape(command.help or "")
    parameters: list[Any] = command.params  # TyperOption and TyperArgument, which have a help
    for parameter in parameters:
        parameter.help = escape(parameter.help or "")


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    """Remove the type ``<bool>`` from flags, which take no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):  # arguments have no such attribute
            parameter.metavar = ""
    return parameters
