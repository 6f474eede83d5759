"""Typer applications of the two programs, `convert` and `gluon2torch` with its subcommands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from converter import __version__
from converter.cli import (
    convert,
    diff,
    doctor,
    evaluate,
    fleet,
    inspect,
    listing,
    parity,
    predict,
    publish,
    summary,
    to_gluon,
    verify,
    zoo,
)
from converter.cli.plain_help import Command, Group

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: dict[str, Callable[..., None]] = {
    "convert": convert.convert,
    "convert-many": fleet.convert_many,
    "convert-zoo": zoo.convert_zoo,
    "to-gluon": to_gluon.to_gluon,
    "predict": predict.predict,
    "evaluate": evaluate.evaluate,
    "publish": publish.publish,
    "verify": verify.verify,
    "parity": parity.parity,
    "diff": diff.diff,
    "inspect": inspect.inspect,
    "list": listing.list_models,
    "summary": summary.summary,
    "doctor": doctor.doctor,
}

convert_app = typer.Typer(pretty_exceptions_enable=False)
app = typer.Typer(cls=Group, no_args_is_help=True, pretty_exceptions_enable=False)

convert_app.command(cls=Command)(convert.convert)
for name, function in COMMANDS.items():
    app.command(name, cls=Command)(function)


@app.callback(invoke_without_command=True)
def gluon2torch(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Convert GluonCV (MXNet) weights to PyTorch, with a numerical proof."""
    if show_version:
        typer.echo(f"gluon2torch {__version__}")
        raise typer.Exit
