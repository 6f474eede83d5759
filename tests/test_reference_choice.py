"""Which reference runs for which options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from converter.choices import ReferenceChoice
from converter.cli import app
from converter.errors import ReferenceUnavailableError
from converter.parity import runner
from converter.parity.options import ParityOptions

NAME = "gluon_cifar_resnext29_32x4d"
OPTIONS = ["--random", "0", "--size", "33", "--proof-dtype", "float64"]


@pytest.mark.parametrize("choice", [ReferenceChoice.numpy, ReferenceChoice.none])
def test_numpy_and_none_need_no_interpreter(choice: ReferenceChoice) -> None:
    plan = runner.resolve_reference(ParityOptions(choice, gluon_python=Path("/nowhere/python")))
    if choice is ReferenceChoice.none:
        assert plan is None
    else:
        assert plan is not None
        assert (plan.python, plan.fallback) == (None, False)


@pytest.mark.parametrize("choice", [ReferenceChoice.gluon, ReferenceChoice.auto])
def test_named_interpreter_is_used_for_gluon_and_auto(choice: ReferenceChoice) -> None:
    plan = runner.resolve_reference(ParityOptions(choice, gluon_python=Path(sys.executable)))
    assert plan is not None
    assert (plan.python, plan.fallback) == (Path(sys.executable), False)
    with pytest.raises(ReferenceUnavailableError, match="/nowhere/python is not an executable"):
        runner.resolve_reference(ParityOptions(choice, gluon_python=Path("/nowhere/python")))


@pytest.mark.parametrize("by", ["variable", "option"])
@pytest.mark.parametrize("command", ["convert", "parity"])
def test_reference_numpy_ignores_the_interpreter(
    by: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = [str(tmp_path / "out")] if command == "convert" else []
    arguments = [command, NAME, *out, *OPTIONS, "--reference", "numpy"]
    if by == "variable":
        monkeypatch.setenv("GLUON_PYTHON", "/nowhere/python")
    else:
        arguments += ["--gluon-python", "/nowhere/python"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.stderr
    assert "the built-in NumPy reference" in result.stdout
    refused = CliRunner().invoke(app.app, [*arguments, "--reference", "gluon"])
    assert (refused.exit_code, "/nowhere/python is not an executable" in refused.stderr) == (1, True)
