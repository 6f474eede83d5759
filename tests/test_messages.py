from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from converter.cli import app, console
from converter.commands import conversion
from converter.errors import ConversionError, DialectError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array

LINES = ["net.params: the tensors match no model", *(f"  unexpected  a{n}" for n in range(38)), "  try this"]
COMMANDS = {
    "conversion.convert": ["convert", "auto", "out", "--params", "net.params"],
    "batch.convert_many": ["convert-zoo", "out"],
    "parity_check.compare": ["parity", "auto", "--params", "net.params"],
    "inspection.inspect": ["inspect", "net.params"],
    "diff.diff": ["diff", "a.pth", "b.pth"],
    "reverse_conversion.to_gluon": ["to-gluon", "a.pth", "b.params"],
    "verification.verify": ["verify", "out"],
    "publication.publish": ["publish", "a.safetensors", "out"],
    "prediction.run": ["predict", "image.jpg", "--weights", "a.pth"],
    "vision.evaluation.evaluate": ["evaluate", "images", "--weights", "a.pth"],
}


@pytest.mark.parametrize("count", [1, 10])
def test_ten_lines_are_printed_in_full(count: int) -> None:
    text = "\n".join(LINES[:count])
    assert console.brief(text, verbose=False) == text


def test_names_between_colons_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console.lines().print(console.word("model = net.Net(mode='a:b:c')"))
    assert capsys.readouterr().out == "model = net.Net(mode='a:b:c')\n"


def test_longer_message_keeps_its_first_lines_and_the_last() -> None:
    assert console.brief("\n".join(LINES[:11]), verbose=False).split("\n") == [
        *LINES[:8],
        "  … 2 more lines: --verbose",
        LINES[10],
    ]
    assert console.brief("\n".join(LINES[:11]), verbose=True).split("\n") == LINES[:11]


@pytest.mark.parametrize(("function", "arguments"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_prints_a_long_message_in_full_only_with_verbose(
    function: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConversionError("\n".join(LINES))

    package = "" if function.startswith("vision") else "commands."
    monkeypatch.setattr(f"converter.{package}{function}", refuse)
    brief = CliRunner().invoke(app.app, arguments)
    assert (brief.exit_code, brief.stdout) == (1, "")
    assert brief.stderr.splitlines() == [
        f"refused  {LINES[0]}",
        *LINES[1:8],
        "  … 31 more lines: --verbose",
        LINES[-1],
    ]
    full = CliRunner().invoke(app.app, [*arguments, "--verbose"])
    assert full.stderr == "refused  " + "\n".join(LINES) + "\n"


def test_list_of_unknown_names_is_complete_in_python_and_with_verbose(
    write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    params = write({f"stranger{number}": np.ones(1, np.float32) for number in range(30)})
    arguments = ["convert", "auto", str(tmp_path / "out"), "--params", str(params), "--reference", "none"]
    brief = CliRunner().invoke(app.app, arguments).stderr
    assert len(brief.splitlines()) == console.BRIEF_LINES
    assert "stranger29" not in brief
    full = CliRunner().invoke(app.app, [*arguments, "--verbose"]).stderr
    assert len(re.findall(r"^  stranger\d+$", full, re.MULTILINE)) == 30
    with pytest.raises(DialectError, match=r"(\n  stranger\d+){30}\n"):
        conversion.convert("auto", tmp_path / "out", params=params)
