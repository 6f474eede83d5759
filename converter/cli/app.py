"""Typer applications of the two programs, `convert` and `gluon2torch` with its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from converter import __version__
from converter.cli import (
    convert,
    diff,
    evaluate,
    inspect,
    listing,
    parity,
    predict,
    publish,
    to_gluon,
    verify,
    zoo,
)

convert_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

convert_app.command()(convert.convert)
app.command("convert")(convert.convert)
app.command("convert-zoo")(zoo.convert_zoo)
app.command("to-gluon")(to_gluon.to_gluon)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("publish")(publish.publish)
app.command("verify")(verify.verify)
app.command("parity")(parity.parity)
app.command("diff")(diff.diff)
app.command("inspect")(inspect.inspect)
app.command("list")(listing.list_models)


@app.callback(invoke_without_command=True)
def gluon2torch(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Convert GluonCV (MXNet) weights to PyTorch, with a numerical proof."""
    if show_version:
        typer.echo(f"gluon2torch {__version__}")
        raise typer.Exit
