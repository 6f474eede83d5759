"""``python -m converter``: the `gluon2torch` command, where another `convert` is first on the path."""

from converter.cli.app import app

app(prog_name="gluon2torch")
