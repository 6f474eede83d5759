from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from converter.cli.app import app
from converter.formats.params import write_params
from converter.networks import matching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

LONG = "backbone.encoder.stages.3.blocks.17.attention.relative_position_bias_table.weight"
STATE: dict[str, Array] = {
    LONG: np.zeros((2, 3), np.float32),
    "fc.bias": np.zeros(3, np.float32),
    "bn1.bias": np.array([np.nan], np.float32),
}
HOSTILE: dict[str, Array] = {"[red]\x1b[2J": np.zeros(1)}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs the command on two states, the first being STATE by default."""

    def diff(other: dict[str, Array], *options: str, first: dict[str, Array] = STATE) -> Result:
        files = [tmp_path / "first.pth", tmp_path / "second.pth"]
        for path, state in zip(files, (first, other), strict=True):
            torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
        return CliRunner().invoke(app, ["diff", *map(str, files), *options])

    return diff


def parse(text: str) -> dict[str, object]:
    """Parse strict JSON, without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document: dict[str, object] = json.loads(text, parse_constant=refuse)
    return document


def test_identical_checkpoints_exit_0(run: Callable[..., Result]) -> None:
    result = run(STATE)
    assert (result.exit_code, result.stderr) == (0, "")
    verdict, following = result.stdout.splitlines()
    assert verdict == "identical  3 tensors, bit for bit"
    assert re.fullmatch(r"next       gluon2torch inspect \S+/second\.pth", following)


def test_different_checkpoints_exit_1_with_a_row_per_tensor(run: Callable[..., Result]) -> None:
    result = run({"fc.bias": np.ones(3, np.float32), "x": np.zeros(1), "bn1.bias": np.zeros(1, np.float32)})
    assert (result.exit_code, result.stderr) == (1, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "different 2 of 2 tensors differ, 1 only in FIRST, 1 only in SECOND"
    assert "fc.bias 3 of 3 1.0e+00" in lines
    assert "bn1.bias 1 of 1 not finite" in lines
    assert "x only in SECOND" in lines
    assert re.fullmatch(r"next gluon2torch inspect \S+/second\.pth --full", lines[-1])


def test_output_fits_into_80_columns(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    changed = {LONG: np.zeros((3, 2), np.float16), f"{LONG}.more": np.zeros(1)}
    result = run(STATE | changed | {"fc.bias": np.ones(3, np.float16)})
    table = [line for line in result.stdout.splitlines() if not line.startswith("next")]
    assert max(map(len, table)) <= 80


def test_rows_beyond_20_need_verbose(run: Callable[..., Result]) -> None:
    first = {f"layer.{'x' * number}": np.zeros(1) for number in range(25)}
    second = dict.fromkeys(first, np.ones(1))
    brief, full = run(second, first=first), run(second, "--verbose", first=first)
    assert (brief.stdout.count("1 of 1"), full.stdout.count("1 of 1")) == (20, 25)
    assert "  and 5 more: --verbose\n" in brief.stdout
    assert "--verbose" not in full.stdout


def test_tensors_of_one_side_and_other_shapes_come_first(run: Callable[..., Result]) -> None:
    other = {"a": np.ones(1), "b": np.zeros(2), "only.0": np.zeros(1), "only.1": np.zeros(1)}
    result = run(other, first={"a": np.zeros(1), "b": np.zeros(1)})
    rows = [line.split()[0] for line in result.stdout.splitlines()[3:-2] if line.strip()]
    assert rows == ["─" * len(rows[0]), "only.{0…1}", "b", "a"]


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_long_name_is_shown_in_full_at_any_width(
    columns: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = run(STATE | {LONG: np.zeros((3, 2), np.float32)})
    assert "…" not in result.stdout
    folded = "".join(line.split("  ")[1] for line in result.stdout.splitlines() if line.startswith("  "))
    assert LONG in folded


@pytest.mark.parametrize(
    ("one", "other"), [({}, HOSTILE), (HOSTILE, {}), (HOSTILE, dict.fromkeys(HOSTILE, np.ones(1)))]
)
def test_tensor_names_are_escaped(
    one: dict[str, Array], other: dict[str, Array], run: Callable[..., Result]
) -> None:
    result = run(STATE | other, first=STATE | one)
    assert "  [red]\\x1b[2J " in result.stdout


def test_json_is_strict_and_alone_on_stdout(run: Callable[..., Result]) -> None:
    changed = {"fc.bias": np.ones(3, np.float32), "bn1.bias": np.array([np.inf], np.float32)}
    result = run(STATE | changed | {"x": np.zeros(1)}, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    same = {"dtypes": ["float32", "float32"]}
    assert parse(result.stdout) == {
        "identical": False,
        "compared": 3,
        "only_first": [],
        "only_second": ["x"],
        "apart": [
            {"name": "fc.bias", "shapes": [[3], [3]], **same, "count": 3, "size": 3, "max_abs": 1.0},
            {"name": "bn1.bias", "shapes": [[1], [1]], **same, "count": 1, "size": 1, "max_abs": None},
        ],
        "mapping": None,
        "counters": 0,
        "network": None,
        "state_dicts": [{"key": None, "prefix": None, "ignored": []}] * 2,
    }


def test_json_of_identical_checkpoints_exits_0(run: Callable[..., Result]) -> None:
    result = run(STATE, "--json")
    assert result.exit_code == 0
    assert parse(result.stdout)["identical"] is True


def test_gluon_names_are_mapped_and_the_mapping_is_shown(
    tiny: Model,
    tiny_mapping: Mapping,
    tiny_params: dict[str, Array],
    write: Callable[[dict[str, Array]], Path],
    tmp_path: Path,
) -> None:
    state = matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")
    torch.save({name: torch.tensor(array) for name, array in state.items()}, tmp_path / "a.pth")
    result = CliRunner().invoke(app, ["diff", str(write(tiny_params)), str(tmp_path / "a.pth")])
    assert result.exit_code == 0
    verdict, mapped, following = result.stdout.splitlines()
    assert verdict == "identical  102 tensors, bit for bit"
    assert mapped == "names      mapped by resnext.toml, 20 BatchNorm counters ignored"
    assert following.startswith("next       gluon2torch parity auto --params ")
    assert following.endswith(f" --weights {tmp_path / 'a.pth'}")


def test_incomparable_files_exit_1_with_the_reason_on_stderr(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run({"x": np.zeros(1)}, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"refused  {tmp_path}/first.pth and {tmp_path}/second.pth: no tensor names in common"
    )
    (tmp_path / "second.pth").write_bytes(b"")
    result = CliRunner().invoke(app, ["diff", str(tmp_path / "first.pth"), str(tmp_path / "second.pth")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"refused  {tmp_path}/second.pth: the file is empty\n  copy or download it again"
    )


def test_damaged_params_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    with path.open("wb") as stream:
        write_params(stream, STATE)
    path.write_bytes(path.read_bytes()[:-3])
    result = CliRunner().invoke(app, ["diff", str(path), str(path)])
    assert result.exit_code == 1
    assert "is the file truncated?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "Missing argument"), (["a.pth"], "Missing argument")],
)
def test_usage_error_exits_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["diff", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
